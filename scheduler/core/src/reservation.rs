//! Reservations: making, changing and deleting them; when they begin and end.
//!
//! Source: `man scontrol` (RESERVATIONS), the goldens `resv/*`. Who may: operators. A reservation whose time is over
//! goes by itself, a repeated one moves to its next time; jobs that still wait for one that is gone say so.

use std::sync::Arc;

use model::id::{NodeIdx, Uid};
use model::refusal::Refusal;
use model::time::{Span, Timestamp};

use crate::authorise;
use crate::effect::{Asker, Outcome, Refused};
use crate::machine::{Call, Machine, Timer};
use crate::record::Record;
use crate::state::State;
use crate::state::accounts::AdminLevel;
use crate::state::job::Job;
use crate::state::reservation::{Repeat, Reservation};

/// Starts may lie so far in the past: it took a while to type.
const LATE: Span = Span::from_mins(1);

impl Call<'_> {
    /// Changes a reservation, or makes one; without a name it gets its first user's or account's and a number.
    pub(crate) fn update_reservation(
        &mut self,
        name: &str,
        changes: &[(Box<str>, Box<str>)],
        create: bool,
        asker: &Asker,
    ) -> Vec<Outcome> {
        let done = self.may_reserve(asker).and_then(|()| self.changed(name, changes, create));
        let (object, refused) = match done {
            Ok((name, row)) => {
                self.emit(Record::Reservation(name.clone(), Some(Arc::new(row))));
                self.machine.arm_reservations(self.now);
                self.out.pass_wanted = true;
                (name, None)
            }
            Err(refused) => (name.into(), Some(refused)),
        };
        vec![Outcome { object, refused }]
    }

    /// Deletes a reservation that no job waits for or runs in.
    pub(crate) fn delete_reservation(&mut self, name: &str, asker: &Asker) -> Vec<Outcome> {
        let refused = self.may_reserve(asker).and_then(|()| self.check_unused(name)).err();
        if refused.is_none() {
            self.emit(Record::Reservation(name.into(), None));
            self.out.pass_wanted = true;
        }
        vec![Outcome { object: name.into(), refused }]
    }

    fn may_reserve(&self, asker: &Asker) -> Result<(), Refused> {
        let level = authorise::level(self.state(), self.settings(), asker);
        if level < AdminLevel::Operator { Err(Refusal::UserIdMissing.into()) } else { Ok(()) }
    }

    fn check_unused(&self, name: &str) -> Result<(), Refused> {
        let state = self.state();
        if !state.reservations.contains_key(name) {
            return Err(Refusal::ReservationInvalid.into());
        }
        let uses =
            |job: &Job| job.ended().is_none() && job.request.rare().reservation.as_deref() == Some(name);
        if state.jobs.values().any(|job| uses(job)) {
            return Err(Refusal::ReservationBusy.into());
        }
        Ok(())
    }

    fn changed(
        &self,
        name: &str,
        changes: &[(Box<str>, Box<str>)],
        create: bool,
    ) -> Result<(Box<str>, Reservation), Refused> {
        let state = self.state();
        let mut row = match (state.reservations.get(name), create) {
            (Some(_), true) => return Err(Refusal::DuplicateReservation.into()),
            (None, false) => return Err(Refusal::ReservationInvalid.into()),
            (Some(row), false) => (**row).clone(),
            (None, true) => Reservation::default(),
        };
        let mut wanted = Wanted::default();
        for (key, value) in changes {
            wanted.read(state, &mut row, key, value)?;
        }
        let duration = wanted.duration.unwrap_or_else(|| row.end.since(row.start));
        row.start = wanted.start.unwrap_or(row.start);
        row.end = match (wanted.end, wanted.duration) {
            (Some(end), None) => end,
            (None | Some(_), _) => row.start.saturating_add(duration),
        };
        let earliest = self.state().wall_time(self.now).saturating_sub(LATE);
        let new_start = create || wanted.start.is_some();
        if row.end <= row.start || (new_start && row.start < earliest) {
            return Err(Refusal::InvalidTimeValue.into());
        }
        if let Some(count) = wanted.nodes {
            row.nodes = self.pick_nodes(name, &row, count)?;
        }
        let mut accounts = row.accounts.iter();
        if !accounts.all(|account| state.accounts.accounts.contains_key(account))
            && !state.accounts.accounts.is_empty()
        {
            return Err(Refusal::InvalidAccount.into());
        }
        if row.nodes.is_empty() {
            return Err(Refusal::InvalidNodeName.into());
        }
        if row.users.is_empty() && row.accounts.is_empty() {
            return Err(Refusal::ReservationInvalid.into());
        }
        self.check_place(name, &row)?;
        let name = if name.is_empty() { self.own_name(&row) } else { name.into() };
        Ok((name, row))
    }

    /// `alice_1`: the first user or account, and the first number that is free.
    fn own_name(&self, row: &Reservation) -> Box<str> {
        let first = row.users.first().map(|(name, _)| name).or(row.accounts.first());
        let stem = first.map_or("resv", |name| name);
        let taken = |name: &String| self.state().reservations.contains_key(&**name);
        let mut names = (1_u64..).map(|number| format!("{stem}_{number}"));
        names.find(|name| !taken(name)).expect("numbers do not run out").into()
    }

    /// Whether nothing is in its way: other reservations, and jobs that will still run.
    fn check_place(&self, name: &str, row: &Reservation) -> Result<(), Refused> {
        if row.nodes.iter().any(|&node| self.meets_another(name, row, node)) {
            return Err(Refusal::ReservationOverlap.into());
        }
        let busy = |node: &NodeIdx| self.runs_beyond(name, row, *node);
        if !row.ignore_jobs && row.nodes.iter().any(busy) {
            return Err(Refusal::NodesBusy.into());
        }
        Ok(())
    }

    fn meets_another(&self, name: &str, row: &Reservation, node: NodeIdx) -> bool {
        let others = self.state().reservations.iter().filter(|(other, _)| ***other != *name);
        !row.lies_over()
            && others.filter(|(_, other)| !other.lies_over() && other.has(node)).any(|(_, other)| {
                // The one that comes less often is looked for in each time of the other.
                match (row.repeat.period(), other.repeat.period()) {
                    (None, _) => other.meets(row.start, row.end),
                    (Some(_), None) => row.meets(other.start, other.end),
                    (Some(mine), Some(theirs)) => {
                        let longer = mine.max(theirs);
                        let (rare, often) = if mine >= theirs { (row, &**other) } else { (&**other, row) };
                        let (start, end) = (rare.start.max(often.start), rare.end.max(often.end));
                        let at = rare.occurrence(start).unwrap_or((start, end));
                        often.meets(at.0, at.1)
                            || often.meets(at.0.saturating_add(longer), at.1.saturating_add(longer))
                    }
                }
            })
    }

    /// Whether a job that is none of the reservation's runs on the node when it begins.
    fn runs_beyond(&self, name: &str, row: &Reservation, node: NodeIdx) -> bool {
        let state = self.state();
        let start = state.own_time(row.start);
        state.index.running.iter().any(|id| {
            let job = &state.jobs[id];
            let Some(active) = job.active() else { return false };
            job.request.rare().reservation.as_deref() != Some(name)
                && active.allocation.iter().any(|share| share.node == node)
                && active.limit_end().is_none_or(|end| end > start)
        })
    }

    /// So many nodes of its partition (else of the default one, else of all) with nothing in the way; those that
    /// it had stay first.
    fn pick_nodes(&self, name: &str, row: &Reservation, count: usize) -> Result<Vec<NodeIdx>, Refused> {
        let state = self.state();
        let of_default = || {
            let mut all = state.partitions.iter().flatten();
            all.find(|partition| partition.definition.is_default)
        };
        let partition = match &*row.partition {
            "" => of_default(),
            name => state.partition_named(name).and_then(|idx| state.partition(idx)),
        };
        let all: Vec<NodeIdx> = match partition {
            Some(partition) => partition.nodes.to_vec(),
            None => (0..).zip(&state.nodes).map(|(place, _)| NodeIdx(place)).collect(),
        };
        let usable = |node: &&NodeIdx| {
            !state.node(**node).removed
                && !self.meets_another(name, row, **node)
                && (row.ignore_jobs || !self.runs_beyond(name, row, **node))
        };
        let mut order: Vec<NodeIdx> = all.iter().filter(usable).copied().collect();
        order.sort_by_key(|node| (!row.has(*node), !state.node(*node).is_available(), *node));
        order.truncate(count);
        if order.len() < count || count == 0 {
            return Err(Refusal::NodesBusy.into());
        }
        order.sort_unstable();
        Ok(order)
    }

    /// A reservation begins or ends: what is over goes or moves on, and jobs may start.
    pub(crate) fn reservation_timer(&mut self) {
        let wall = self.state().wall_time(self.now);
        let over: Vec<(Box<str>, Arc<Reservation>)> = self
            .state()
            .reservations
            .iter()
            .filter(|(_, row)| row.end <= wall)
            .map(|(name, row)| (name.clone(), Arc::clone(row)))
            .collect();
        for (name, row) in over {
            let next = row
                .occurrence(wall)
                .map(|(start, end)| Arc::new(Reservation { start, end, ..(*row).clone() }));
            self.emit(Record::Reservation(name, next));
        }
        self.machine.arm_reservations(self.now);
        self.out.pass_wanted = true;
    }

    /// Whether reservations let a start stand: its nodes are the job's to have for its whole run.
    pub(crate) fn lets_start(
        &self,
        job: &Job,
        nodes: impl Iterator<Item = NodeIdx>,
        limit: Option<Span>,
    ) -> bool {
        let own = job.request.rare().reservation.as_deref();
        let end = limit.map_or(Timestamp(i64::MAX), |limit| self.now.saturating_add(limit));
        let state = self.state();
        let mut nodes = nodes;
        state.reservations.is_empty() && own.is_none()
            || nodes.all(|node| state.is_open(node, own, self.now, end))
    }
}

impl Machine {
    /// Sets the timer of the next begin or end of a reservation after `now`.
    pub(crate) fn arm_reservations(&mut self, now: Timestamp) {
        let wall = self.state.wall_time(now);
        let changes = self.state.reservations.values().map(|row| {
            // One whose end was missed is due.
            if row.end <= wall { row.end } else { row.next_change(wall).unwrap_or(row.end) }
        });
        if let Some(next) = changes.min() {
            self.set_timer(self.state.own_time(next), Timer::Reservation);
        }
    }
}

/// The limit of a run that starts `now`: of a job in a reservation not beyond the end of that.
#[must_use]
pub(crate) fn limit_within(state: &State, job: &Job, limit: Option<Span>, now: Timestamp) -> Option<Span> {
    let Some(name) = job.request.rare().reservation.as_deref() else { return limit };
    let wall = state.wall_time(now);
    let Some((_, end)) = state.reservations.get(name).and_then(|row| row.occurrence(wall)) else {
        return limit;
    };
    let left = end.since(wall);
    Some(limit.map_or(left, |limit| limit.min(left)))
}

/// Whether a job may be submitted into the reservation that it names.
///
/// # Errors
/// Slurm's refusal.
pub(crate) fn check_access(state: &State, name: &str, uid: Uid, account: &str) -> Result<(), Refused> {
    let row = state.reservations.get(name).ok_or(Refused::from(Refusal::ReservationInvalid))?;
    if row.lets_in(uid, account) { Ok(()) } else { Err(Refusal::ReservationAccess.into()) }
}

/// What is asked for beside the row itself.
#[derive(Default)]
struct Wanted {
    start: Option<Timestamp>,
    end: Option<Timestamp>,
    duration: Option<Span>,
    nodes: Option<usize>,
}

impl Wanted {
    fn read(&mut self, state: &State, row: &mut Reservation, key: &str, value: &str) -> Result<(), Refused> {
        let bad_time = || Refused::from(Refusal::InvalidTimeValue);
        let moment = || {
            let ms = value.strip_prefix('@').and_then(|ms| ms.parse().ok());
            ms.map(Timestamp).ok_or_else(bad_time)
        };
        match key.to_ascii_lowercase().as_str() {
            "starttime" => self.start = Some(moment()?),
            "endtime" => self.end = Some(moment()?),
            "duration" => {
                let limit = model::time::limit::parse(value).map_err(|_| bad_time())?;
                // Without an end it lasts a year, as Slurm's.
                self.duration = Some(limit.unwrap_or(Span::from_mins(365 * 24 * 60)));
            }
            "nodes" => {
                row.nodes = named_nodes(state, value)?;
                row.named_nodes = true;
            }
            "nodecnt" => {
                self.nodes = Some(value.parse().map_err(|_| Refused::from(Refusal::InvalidNodeCount))?);
                row.named_nodes = false;
            }
            "partitionname" => {
                state.partition_named(value).ok_or(Refused::from(Refusal::InvalidPartitionName))?;
                row.partition = value.into();
            }
            "users" => row.users = users(value)?,
            "accounts" => row.accounts = list(value),
            "flags" => flags(row, value)?,
            _ => return Err(Refusal::NotSupported.into()),
        }
        Ok(())
    }
}

fn list(value: &str) -> Vec<Box<str>> {
    value.split(',').filter(|piece| !piece.is_empty()).map(Into::into).collect()
}

/// `alice:2001,bob:2002`: the shell looked the numbers up.
fn users(value: &str) -> Result<Vec<(Box<str>, Uid)>, Refused> {
    let one = |piece: Box<str>| {
        let (name, uid) = piece.rsplit_once(':')?;
        Some((name.into(), Uid(uid.parse().ok()?)))
    };
    list(value).into_iter().map(one).collect::<Option<_>>().ok_or(Refusal::UserIdMissing.into())
}

fn named_nodes(state: &State, value: &str) -> Result<Vec<NodeIdx>, Refused> {
    let invalid = || Refused::from(Refusal::InvalidNodeName);
    if value.eq_ignore_ascii_case("ALL") {
        let all = (0..).map(NodeIdx).zip(&state.nodes).filter(|(_, node)| !node.removed);
        return Ok(all.map(|(node, _)| node).collect());
    }
    let names = model::hostlist::expand(value).map_err(|_| invalid())?;
    let mut nodes: Vec<NodeIdx> =
        names.iter().map(|name| state.node_named(name)).collect::<Option<_>>().ok_or_else(invalid)?;
    nodes.sort_unstable();
    nodes.dedup();
    Ok(nodes)
}

/// `MAINT,DAILY` sets the flags anew; a word with `+` or `-` before it adds one or takes it away.
fn flags(row: &mut Reservation, value: &str) -> Result<(), Refused> {
    if !value.starts_with(['+', '-']) {
        (row.maintenance, row.overlap, row.ignore_jobs) = (false, false, false);
        row.repeat = Repeat::Once;
    }
    for flag in list(value) {
        let on = !flag.starts_with('-');
        let repeat = |row: &mut Reservation, how| {
            if on {
                row.repeat = how;
            } else if row.repeat == how {
                row.repeat = Repeat::Once;
            }
        };
        match flag.trim_start_matches(['+', '-']).to_ascii_uppercase().as_str() {
            "MAINT" => row.maintenance = on,
            "OVERLAP" => row.overlap = on,
            "IGNORE_JOBS" | "IGNORE_RUNNING" => row.ignore_jobs = on,
            "DAILY" => repeat(row, Repeat::Daily),
            "WEEKLY" => repeat(row, Repeat::Weekly),
            "SPEC_NODES" => {}
            other => {
                return Err(Refused {
                    refusal: Refusal::NotSupported,
                    lines: vec![format!("reservation flag {other} is not supported by sluice yet").into()],
                });
            }
        }
    }
    Ok(())
}
