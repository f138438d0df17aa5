//! What recovery finds: the chain of frames from the oldest segment on, its end, and what stands behind it.
//! Reading only; the verdict "damaged" or "torn" is made here and nothing is touched.

use std::ops::Range;

use crate::disk::Disk;
use crate::error::{Error, Evidence};
use crate::frame::{HEADER_BYTES, Header, Kind, SECTOR_BYTES, is_record_list};
use crate::ids::{Epoch, Lineage, SegmentId, Sequence};
use crate::reader::{Link, Probe, Window};
use crate::segment::{segment_name, segment_of};

/// A sector as it is filled ahead.
static BLANK: [u8; SECTOR_BYTES as usize] = [0; SECTOR_BYTES as usize];

/// One segment file as it was found.
pub(crate) struct Found {
    pub(crate) id: SegmentId,
    pub(crate) window: Window,
    /// Numbers of the first and last frame in it; `None` if it holds none.
    pub(crate) frames: Option<(Sequence, Sequence)>,
    /// Where something other than zeros stands behind the end of the chain.
    pub(crate) junk: Option<Range<u64>>,
}

/// The last frame of the chain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tail {
    /// Index of its segment in [`Scan::segments`].
    pub(crate) segment: usize,
    pub(crate) header: Header,
}

/// The whole log as it was found.
pub(crate) struct Scan {
    pub(crate) segments: Vec<Found>,
    pub(crate) frames: u64,
    pub(crate) first: Option<Sequence>,
    pub(crate) tail: Option<Tail>,
    /// Where the next frame would go: index of the segment, offset.
    pub(crate) end: (usize, u64),
    /// What the next frame must say.
    pub(crate) link: Link,
}

impl Scan {
    /// Highest epoch seen; 0 in a new log.
    pub(crate) fn epoch(&self) -> Epoch {
        self.tail.map_or(Epoch(0), |tail| tail.header.epoch)
    }

    /// Number of the last frame; 0 in a new log.
    pub(crate) fn last(&self) -> Sequence {
        self.tail.map_or(Sequence(0), |tail| tail.header.sequence)
    }

    pub(crate) fn is_batch_last(&self) -> bool {
        self.tail.is_some_and(|tail| tail.header.kind == Kind::Batch)
    }
}

fn damage(segment: SegmentId, offset: u64, evidence: Evidence) -> Error {
    Error::Damage { segment, offset, evidence }
}

/// Opens the segments in order and checks that none is missing in between.
pub(crate) fn find_segments(disk: &dyn Disk) -> Result<Vec<Found>, Error> {
    let names = disk.list().map_err(|error| Error::io("list", ".", error))?;
    let mut ids: Vec<SegmentId> = names.iter().filter_map(|name| segment_of(name)).collect();
    ids.sort_unstable();
    let mut found: Vec<Found> = Vec::with_capacity(ids.len());
    for id in ids {
        if let Some(before) = found.last()
            && before.id.next() != id
        {
            return Err(damage(before.id.next(), 0, Evidence::SegmentMissing));
        }
        let window = Window::open(disk, &segment_name(id))?;
        if window.size() < SECTOR_BYTES || window.size() % SECTOR_BYTES != 0 {
            return Err(damage(id, window.size(), Evidence::SegmentSize));
        }
        found.push(Found { id, window, frames: None, junk: None });
    }
    Ok(found)
}

/// Whether any segment holds a header of whatever lineage: then this is no new log.
pub(crate) fn holds_frames(segments: &mut [Found]) -> Result<bool, Error> {
    for found in segments {
        let mut offset = 0;
        while offset < found.window.size() {
            if found.window.header(found.id, offset)?.is_some() {
                return Ok(true);
            }
            offset += SECTOR_BYTES;
        }
    }
    Ok(false)
}

/// Walks the chain and judges what stands behind it. Cost: every byte of every segment is read once, but for those in
/// which no frame is later than `covered`.
pub(crate) fn scan(mut segments: Vec<Found>, lineage: Lineage, covered: Sequence) -> Result<Scan, Error> {
    for found in &mut segments {
        found.window.expect_lineage(lineage);
    }
    let Some(oldest) = segments.first().map(|found| found.id) else {
        return Err(damage(SegmentId(1), 0, Evidence::SegmentMissing));
    };
    let (begin, first) = skip_covered(&mut segments, lineage, covered)?;
    segments[begin..].iter().for_each(|found| found.window.file().read_ahead());
    let mut scan = Scan { segments, frames: 0, first: None, tail: None, end: (0, 0), link: Link::FIRST };
    if begin > 0 {
        scan.first = scan.segments[0].frames.map(|(first, _)| first);
        scan.frames = scan.first.map_or(0, |oldest| first.0 - oldest.0);
    }
    // Where the chain begins is known for the first segment only. In a later one any whole frame is believed, but
    // one must be there: a segment is removed only when a later one holds a durable frame.
    let mut link = (begin == 0 && oldest == SegmentId(1)).then_some(Link::FIRST);
    'segments: for index in begin..scan.segments.len() {
        let mut offset = 0;
        loop {
            let epoch = scan.epoch();
            let Some(header) = accept(&mut scan.segments[index], lineage, offset, link, epoch)? else {
                // Maybe the frame did not fit here and went to the next segment.
                if offset == 0 {
                    break 'segments;
                }
                break;
            };
            link = Some(Link::after(&header));
            offset += header.frame_bytes();
            let found = &mut scan.segments[index];
            let first = found.frames.map_or(header.sequence, |(first, _)| first);
            found.frames = Some((first, header.sequence));
            scan.first.get_or_insert(header.sequence);
            scan.frames += 1;
            scan.tail = Some(Tail { segment: index, header });
            scan.end = (index, offset);
        }
    }
    let Some(link) = link else { return Err(damage(oldest, 0, Evidence::FirstFrame)) };
    scan.link = link;
    judge_rest(&mut scan, lineage)?;
    Ok(scan)
}

/// Where the walk has to begin: the latest segment behind which nothing is needed, with the number of its first frame. The
/// frames of those before it are told from the first headers alone.
fn skip_covered(
    segments: &mut [Found],
    lineage: Lineage,
    covered: Sequence,
) -> Result<(usize, Sequence), Error> {
    let mut firsts: Vec<Sequence> = Vec::new();
    for found in segments.iter_mut() {
        if covered == Sequence(0) {
            break;
        }
        found.window.glance();
        let header = found.window.header(found.id, 0)?;
        let known = header.filter(|header| {
            header.lineage == lineage && firsts.last().is_none_or(|before| *before < header.sequence)
        });
        found.window.forget();
        match known {
            Some(header) if header.sequence <= covered.next() => firsts.push(header.sequence),
            _ => break,
        }
    }
    // A first frame that is torn proves nothing of the segment before it.
    while let Some(begin) = firsts.len().checked_sub(1) {
        if begin == 0 || matches!(segments[begin].window.probe(segments[begin].id, 0)?, Probe::Whole(..)) {
            break;
        }
        firsts.pop();
    }
    for (found, pair) in segments.iter_mut().zip(firsts.windows(2)) {
        found.frames = Some((pair[0], Sequence(pair[1].0 - 1)));
    }
    Ok((firsts.len().saturating_sub(1), firsts.last().copied().unwrap_or(Sequence(0))))
}

/// The frame at `offset` if it is whole and continues the chain; `None` if none is there or it is torn.
fn accept(
    found: &mut Found,
    lineage: Lineage,
    offset: u64,
    link: Option<Link>,
    epoch: Epoch,
) -> Result<Option<Header>, Error> {
    let id = found.id;
    match found.window.probe(id, offset)? {
        Probe::Absent | Probe::Torn => Ok(None),
        Probe::Whole(header, _) if header.lineage != lineage => {
            Err(damage(id, offset, Evidence::ForeignLineage))
        }
        // Older than what is expected here: no evidence of a loss; judged with the rest.
        Probe::Whole(header, _) if link.is_some_and(|link| header.sequence < link.sequence) => Ok(None),
        // Higher: the rest is judged as a whole, which names the place of the loss.
        Probe::Whole(header, _) if link.is_some_and(|link| header.sequence > link.sequence) => Ok(None),
        Probe::Whole(header, payload) => {
            if link.is_some_and(|link| !link.fits(&header)) || header.epoch < epoch {
                return Err(damage(id, offset, Evidence::BrokenChain { found: header.sequence }));
            }
            if !is_record_list(payload, header.records) {
                return Err(damage(id, offset, Evidence::MalformedRecords { found: header.sequence }));
            }
            Ok(Some(header))
        }
    }
}

/// Looks at everything behind the end of the chain. Frame n+1 is written only after frame n was durable, so
/// even the bare header of a later frame proves that the frame at the end was lost, not torn.
fn judge_rest(scan: &mut Scan, lineage: Lineage) -> Result<(), Error> {
    let (end_index, end_offset) = scan.end;
    let link = scan.link;
    // The frame that is missing went to the next segment if nothing but zeros is left here and something is there.
    let mut missing = (scan.segments[end_index].id, end_offset);
    let mut evidence: Option<Evidence> = None;
    for index in end_index..scan.segments.len() {
        let found = &mut scan.segments[index];
        let mut offset = if index == end_index { end_offset } else { 0 };
        while offset < found.window.size() {
            let sector = found.window.get(offset, SECTOR_BYTES)?;
            let blank = sector.is_some_and(|sector| sector == BLANK);
            if !blank {
                let junk = found.junk.get_or_insert(offset..offset);
                junk.end = offset + SECTOR_BYTES;
                if evidence.is_none() {
                    let at_end = offset == 0 && index == end_index + 1 || (index, offset) == scan.end;
                    evidence = judge_sector(found, lineage, link, offset, at_end)?;
                }
            }
            offset += SECTOR_BYTES;
        }
        if index == end_index && found.junk.is_none() && index + 1 < scan.segments.len() {
            missing = (scan.segments[index + 1].id, 0);
        }
    }
    evidence.map_or(Ok(()), |evidence| Err(damage(missing.0, missing.1, evidence)))
}

/// What the header at `offset`, if there is one, proves.
fn judge_sector(
    found: &mut Found,
    lineage: Lineage,
    link: Link,
    offset: u64,
    at_end: bool,
) -> Result<Option<Evidence>, Error> {
    let id = found.id;
    debug_assert!(HEADER_BYTES as u64 <= SECTOR_BYTES);
    let Some(header) = found.window.header(id, offset)? else { return Ok(None) };
    if header.lineage != lineage {
        // Elsewhere it may be the payload of a torn frame, which may hold anything.
        return Ok(at_end.then_some(Evidence::ForeignLineage));
    }
    Ok(match header.sequence.cmp(&link.sequence) {
        std::cmp::Ordering::Less => None,
        std::cmp::Ordering::Equal if at_end && link.fits(&header) => None,
        std::cmp::Ordering::Equal => Some(Evidence::BrokenChain { found: header.sequence }),
        std::cmp::Ordering::Greater => Some(Evidence::LaterFrame {
            expected: link.sequence,
            found: header.sequence,
            segment: id,
            offset,
        }),
    })
}
