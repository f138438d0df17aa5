//! Blocks: runs of rows that stand together in a history file, with bounds of what is in them.
//!
//! Rows stand in the order in which their runs ended, so a range of time is a few neighbouring blocks, which one read
//! brings. For what is not in that order (a job, a user, an account, a call) each block has a Bloom filter of sixteen
//! bits for each value: one block in a thousand is read for nothing. A block of [`ROWS`] rows takes about 600 bytes
//! here, five for a row, where a key for each way to find each row took more than the rows themselves.
//!
//! Invariant: a row that is meant is in a block that [`Wanted::may_be_in`] lets through.

use journal::RECORD_OVERHEAD_BYTES;
use model::id::{RequestKey, Uid};
use scheduler_codec::RowGlance;

use crate::store::history::Query;
use crate::store::history::file::RowPlace;

/// Most rows of a block.
pub(super) const ROWS: u32 = 128;
/// Bits of the filter for each value, and how many of them a value sets.
const BITS: usize = 16;
const PROBES: u64 = 6;
/// Bytes of an encoded block before its filter.
const FIXED_BYTES: usize = 40;

/// A run of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// Where the length before its first row stands in the file.
    pub(crate) offset: u64,
    /// Bytes up to the end of its last row.
    pub(crate) bytes: u32,
    /// Number of rows.
    pub(crate) rows: u32,
    earliest_submit_ms: i64,
    latest_end_ms: i64,
    /// Bounds of the numbers of jobs and arrays.
    least_job: u32,
    most_job: u32,
    /// At least one word.
    filter: Box<[u64]>,
}

/// What a value is. It goes into the hash, so the numbers are part of the format.
#[derive(Clone, Copy)]
enum Kind {
    Job = 1,
    User = 2,
    Account = 3,
    Call = 4,
}

/// FNV-1a with a last stir, so that neighbouring numbers set bits far from each other.
fn hash(kind: Kind, parts: &[&[u8]]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut take = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    take(kind as u8);
    parts.iter().for_each(|part| part.iter().for_each(|byte| take(*byte)));
    let stirred = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let stirred = (stirred ^ (stirred >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    stirred ^ (stirred >> 31)
}

fn of_job(job: u32) -> u64 {
    hash(Kind::Job, &[&job.to_be_bytes()])
}

fn of_user(uid: u32) -> u64 {
    hash(Kind::User, &[&uid.to_be_bytes()])
}

fn of_account(name: &[u8]) -> u64 {
    hash(Kind::Account, &[name])
}

fn of_call(uid: u32, key: RequestKey) -> u64 {
    hash(Kind::Call, &[&uid.to_be_bytes(), &key.0])
}

/// The bits of a value in a filter of that many words: word and mask.
fn bits(value: u64, words: usize) -> impl Iterator<Item = (usize, u64)> {
    let step = (value >> 32) | 1;
    (0..PROBES).map(move |probe| {
        let bit = value.wrapping_add(probe.wrapping_mul(step)) % (64 * words as u64);
        ((bit / 64) as usize, 1 << (bit % 64))
    })
}

impl Block {
    fn end(&self) -> u64 {
        self.offset + u64::from(self.bytes)
    }

    fn has(&self, value: u64) -> bool {
        bits(value, self.filter.len()).all(|(word, mask)| self.filter[word] & mask != 0)
    }

    /// As it stands in the database.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FIXED_BYTES + 8 * self.filter.len());
        bytes.extend(self.offset.to_le_bytes());
        bytes.extend(self.bytes.to_le_bytes());
        bytes.extend(self.rows.to_le_bytes());
        bytes.extend(self.earliest_submit_ms.to_le_bytes());
        bytes.extend(self.latest_end_ms.to_le_bytes());
        bytes.extend(self.least_job.to_le_bytes());
        bytes.extend(self.most_job.to_le_bytes());
        self.filter.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        bytes
    }

    /// The block that the bytes are; `None` if they are none.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (fixed, filter) = bytes.split_at_checked(FIXED_BYTES)?;
        let four = |at: usize| fixed[at..at + 4].try_into().map(u32::from_le_bytes).ok();
        let eight = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).ok();
        let (words, odd) = (filter.len() / 8, filter.len() % 8);
        if words == 0 || odd != 0 {
            return None;
        }
        Some(Self {
            offset: eight(&fixed[..8])?,
            bytes: four(8)?,
            rows: four(12)?,
            earliest_submit_ms: eight(&fixed[16..24])? as i64,
            latest_end_ms: eight(&fixed[24..32])? as i64,
            least_job: four(32)?,
            most_job: four(36)?,
            filter: filter.chunks_exact(8).map(eight).collect::<Option<_>>()?,
        })
    }
}

/// Makes blocks of the rows of a file, shown in order.
pub(super) struct Maker {
    /// Most rows of a block.
    most: u32,
    done: Vec<Block>,
    open: Option<Block>,
    /// Of the open block, with repetitions.
    values: Vec<u64>,
}

impl Maker {
    /// For blocks of so many rows.
    pub(super) fn new(most: u32) -> Self {
        Self { most, done: Vec::new(), open: None, values: Vec::new() }
    }

    pub(super) fn add(&mut self, place: RowPlace, row: &RowGlance<'_>) {
        let offset = place.offset - RECORD_OVERHEAD_BYTES;
        let length = place.length + RECORD_OVERHEAD_BYTES as u32;
        // Behind the end of a frame there are the next one's header and padding.
        if self.open.as_ref().is_some_and(|open| open.rows == self.most || open.end() != offset) {
            self.close();
        }
        let (least, most) = (row.job.min(row.array.unwrap_or(row.job)), row.job.max(row.array.unwrap_or(0)));
        let open = self.open.get_or_insert_with(|| Block {
            offset,
            bytes: 0,
            rows: 0,
            earliest_submit_ms: row.submit_ms,
            latest_end_ms: row.end_ms,
            least_job: least,
            most_job: most,
            filter: Box::default(),
        });
        open.bytes += length;
        open.rows += 1;
        open.earliest_submit_ms = open.earliest_submit_ms.min(row.submit_ms);
        open.latest_end_ms = open.latest_end_ms.max(row.end_ms);
        open.least_job = open.least_job.min(least);
        open.most_job = open.most_job.max(most);
        self.values.extend([
            of_job(row.job),
            of_user(row.uid),
            of_account(row.account),
            of_call(row.uid, row.key),
        ]);
        self.values.extend(row.array.map(of_job));
    }

    fn close(&mut self) {
        let Some(mut block) = self.open.take() else { return };
        self.values.sort_unstable();
        self.values.dedup();
        let words = (self.values.len() * BITS).div_ceil(64);
        let mut filter = vec![0_u64; words];
        for (word, mask) in self.values.drain(..).flat_map(|value| bits(value, words)) {
            filter[word] |= mask;
        }
        block.filter = filter.into();
        self.done.push(block);
    }

    pub(super) fn finish(mut self) -> Vec<Block> {
        self.close();
        self.done
    }
}

/// What a query wants, as blocks see it.
pub(crate) struct Wanted<'a> {
    query: &'a Query,
    users: Vec<u64>,
    accounts: Vec<u64>,
    call: Option<u64>,
}

impl<'a> Wanted<'a> {
    pub(crate) fn new(query: &'a Query) -> Self {
        Self {
            query,
            users: query.uids.iter().map(|uid| of_user(*uid)).collect(),
            accounts: query.accounts.iter().map(|name| of_account(name.as_bytes())).collect(),
            call: None,
        }
    }

    /// Of the rows that the query means only those that the call made.
    pub(crate) fn of_call(self, uid: Uid, key: RequestKey) -> Self {
        Self { call: Some(of_call(uid.0, key)), ..self }
    }

    /// The query.
    pub(crate) fn query(&self) -> &Query {
        self.query
    }

    /// Whether a row that is meant may be in the block. Never wrong with "no".
    pub(crate) fn may_be_in(&self, block: &Block) -> bool {
        let any = |values: &[u64]| values.is_empty() || values.iter().any(|value| block.has(*value));
        let ids = &self.query.job_ids;
        self.query.in_window(block.earliest_submit_ms, block.latest_end_ms)
            && (ids.is_empty()
                || ids.range(block.least_job..=block.most_job).any(|id| block.has(of_job(*id))))
            && any(&self.users)
            && any(&self.accounts)
            && self.call.is_none_or(|call| block.has(call))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Numbers that a row is made of: job, array, user, account, submission, run time, bytes, and whether a frame ends.
    type Drawn = (u32, Option<u32>, u32, u8, i64, i64, u32, bool);

    fn rows() -> impl Strategy<Value = Vec<Drawn>> {
        let drawn = (
            1..5000_u32,
            proptest::option::weighted(0.1, 1..5000_u32),
            0..60_u32,
            0..9_u8,
            0..1_000_000_i64,
            0..200_000_i64,
            1..900_u32,
            proptest::bool::weighted(0.02),
        );
        proptest::collection::vec(drawn, 1..700)
    }

    fn account(number: u8) -> String {
        format!("account{number}")
    }

    fn query() -> impl Strategy<Value = Query> {
        let window = (proptest::option::of(0..1_200_000_i64), proptest::option::of(0..1_200_000_i64));
        let some = |most: u32, count: usize| proptest::collection::btree_set(0..most, 0..count);
        (window, some(5000, 4), some(60, 3), some(9, 2)).prop_map(
            |((from_ms, to_ms), job_ids, uids, names)| {
                let accounts: BTreeSet<String> = names.iter().map(|name| account(*name as u8)).collect();
                Query { from_ms, to_ms, job_ids, uids, accounts, ..Query::default() }
            },
        )
    }

    proptest! {
        /// A naive filter finds no row in a block that was not let through, and blocks hold every row where it stands.
        #[test]
        fn no_row_is_missed(drawn in rows(), queries in proptest::collection::vec(query(), 8)) {
            let names: Vec<String> = drawn.iter().map(|row| account(row.3)).collect();
            let mut maker = Maker::new(ROWS);
            let mut offset = 4096;
            let mut shown = Vec::new();
            for ((job, array, uid, _, submit_ms, ran_ms, bytes, ends), name) in drawn.iter().zip(&names) {
                let row = RowGlance {
                    bytes: &[],
                    job: *job,
                    array: *array,
                    uid: *uid,
                    run: 1,
                    submit_ms: *submit_ms,
                    start_ms: None,
                    cpus: 1,
                    end_ms: submit_ms + ran_ms,
                    state: b"COMPLETED",
                    account: name.as_bytes(),
                    qos: b"",
                    partition: b"",
                    name: b"",
                    key: RequestKey(u128::from(*job).to_be_bytes()),
                    requeued: false,
                };
                offset += RECORD_OVERHEAD_BYTES;
                maker.add(RowPlace { file: 1, offset, length: *bytes }, &row);
                shown.push((offset, row));
                offset += u64::from(*bytes) + if *ends { 500 } else { 0 };
            }
            let blocks = maker.finish();
            prop_assert_eq!(blocks.iter().map(|block| block.rows as usize).sum::<usize>(), shown.len());
            for block in &blocks {
                prop_assert!((1..=ROWS).contains(&block.rows));
                prop_assert_eq!(Block::decode(&block.encode()), Some(block.clone()));
            }
            let block_of = |offset: u64| {
                blocks.iter().find(|block| (block.offset..block.end()).contains(&offset))
            };
            for query in &queries {
                let wanted = Wanted::new(query);
                for (offset, row) in shown.iter().filter(|(_, row)| query.matches(row)) {
                    let block = block_of(*offset);
                    prop_assert!(block.is_some_and(|block| wanted.may_be_in(block)), "{row:?} of {query:?}");
                    let made = Wanted::new(query).of_call(Uid(row.uid), row.key);
                    prop_assert!(block.is_some_and(|block| made.may_be_in(block)));
                }
            }
        }
    }

    #[test]
    fn a_filter_lets_little_through_that_is_not_there() {
        let mut maker = Maker::new(ROWS);
        let mut offset = 0;
        for job in (1..=12_800_u32).map(|at| at * 2) {
            let row = RowGlance { job, ..plain() };
            maker.add(RowPlace { file: 1, offset: offset + 4, length: 400 }, &row);
            offset += 404;
        }
        let blocks = maker.finish();
        assert_eq!(blocks.len(), 100);
        let bytes: usize = blocks.iter().map(|block| block.encode().len()).sum();
        assert!(bytes < 12_800 * 6, "{bytes} bytes for 12800 rows");
        let query = Query { uids: [77].into(), ..Query::default() };
        let passed = blocks.iter().filter(|block| Wanted::new(&query).may_be_in(block)).count();
        assert!(passed <= 1, "{passed} blocks of a user who has none");
        // Every odd number lies within the bounds of a block, and has to be found missing there.
        let passed = (3..25_000_u32).step_by(2).filter(|job| {
            let query = Query { job_ids: [*job].into(), ..Query::default() };
            blocks.iter().any(|block| Wanted::new(&query).may_be_in(block))
        });
        let passed = passed.count();
        assert!(passed < 12_500 / 200, "{passed} of 12500 jobs that are not there");
    }

    fn plain() -> RowGlance<'static> {
        RowGlance {
            bytes: &[],
            job: 1,
            array: None,
            uid: 5,
            run: 1,
            submit_ms: 0,
            start_ms: None,
            cpus: 1,
            end_ms: 9,
            state: b"",
            account: b"a",
            qos: b"",
            partition: b"",
            name: b"",
            key: RequestKey([1; 16]),
            requeued: false,
        }
    }

    #[test]
    fn bytes_that_are_no_block_are_refused() {
        let mut maker = Maker::new(ROWS);
        maker.add(RowPlace { file: 1, offset: 4, length: 400 }, &plain());
        let bytes = maker.finish()[0].encode();
        assert!(Block::decode(&bytes).is_some());
        for end in 0..bytes.len() {
            assert_eq!(Block::decode(&bytes[..end]), None, "{end} bytes");
        }
    }
}
