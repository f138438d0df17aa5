//! Effects to executors: one bounded, ordered queue for each session. One dead or slow node delays nobody.
//!
//! Owns the table of sessions. Nothing is kept for a node without a session, and a session that does not
//! take its commands is ended: what its executor must know is derived from `State` when it connects again.

pub mod launch;
pub mod recent;
pub mod session;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use model::id::NodeIdx;
use scheduler_core::effect::Effect;
use tokio::sync::mpsc;

/// Commands that wait for one session.
const COMMANDS_MAX: usize = 65_536;

/// What a session is told.
#[derive(Debug)]
pub enum Order {
    /// The machine accepted it.
    Accepted(NodeIdx),
    /// The session is over, for this reason.
    End(Box<str>),
    /// Something for the executor, and when it was released.
    Do(Effect, Instant),
    /// HealthCheckProgram is due there.
    CheckHealth,
    /// Its log says that much from now on.
    LogLevel(&'static str),
}

/// The queue of one session.
pub type Orders = mpsc::Receiver<Order>;

#[derive(Default)]
struct Table {
    sessions: HashMap<u64, mpsc::Sender<Order>>,
    by_node: HashMap<NodeIdx, u64>,
}

/// The sessions.
#[derive(Default)]
pub struct Dispatch {
    table: Mutex<Table>,
    last: AtomicU64,
    bodies: recent::Recent,
}

impl Dispatch {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new session, with the number that the machine will know it by.
    #[must_use]
    pub fn open(&self) -> (u64, Orders) {
        let session = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (orders, receiver) = mpsc::channel(COMMANDS_MAX);
        self.lock().sessions.insert(session, orders);
        (session, receiver)
    }

    /// Forgets a session.
    pub fn close(&self, session: u64) {
        let mut table = self.lock();
        table.sessions.remove(&session);
        table.by_node.retain(|_, known| *known != session);
    }

    /// Ends all sessions: the state was recovered, so all executors register again.
    pub fn end_all(&self, reason: &str) {
        let mut table = self.lock();
        table.by_node.clear();
        #[expect(clippy::iter_over_hash_type, reason = "each is told the same; the order is not seen")]
        for (_, orders) in table.sessions.drain() {
            // Full or gone: the closed channel tells it.
            let _ = orders.try_send(Order::End(reason.into()));
        }
    }

    /// Bodies that launches used last.
    #[must_use]
    pub fn recent(&self) -> &recent::Recent {
        &self.bodies
    }

    /// How many nodes have a session.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.lock().by_node.len()
    }

    /// Hands over an effect for an executor; others are not for here.
    pub fn release(&self, effect: Effect) {
        match effect {
            Effect::Answer(..) | Effect::Hook { .. } => {}
            Effect::Session { session, node: Some(node), .. } => self.accept(session, node),
            Effect::Session { session, node: None, refused } => {
                let reason = refused.unwrap_or_else(|| "the scheduler refuses this session".into());
                self.end(session, &reason);
            }
            Effect::Launch { node, .. }
            | Effect::Terminate { node, .. }
            | Effect::Signal { node, .. }
            | Effect::Suspend { node, .. }
            | Effect::ChangeLimit { node, .. }
            | Effect::Acknowledge { node, .. }
            | Effect::Announce { node, .. } => self.send(node, effect),
        }
    }

    /// Asks a node's executor for something that no state depends on; `false` for one without a session, or whose session
    /// takes nothing: that one is not asked again.
    #[must_use]
    pub fn ask(&self, node: NodeIdx, order: Order) -> bool {
        let table = self.lock();
        let orders = table.by_node.get(&node).and_then(|session| table.sessions.get(session));
        orders.is_some_and(|orders| orders.try_send(order).is_ok())
    }

    fn accept(&self, session: u64, node: NodeIdx) {
        let mut table = self.lock();
        let Some(orders) = table.sessions.get(&session).cloned() else { return };
        if orders.try_send(Order::Accepted(node)).is_err() {
            return;
        }
        let before = table.by_node.insert(node, session).filter(|before| *before != session);
        let before = before.and_then(|before| table.sessions.remove(&before));
        drop(table);
        if let Some(before) = before {
            // Full or gone: the closed channel tells it.
            let _ = before.try_send(Order::End("the node has registered again".into()));
        }
    }

    fn end(&self, session: u64, reason: &str) {
        let orders = self.lock().sessions.remove(&session);
        if let Some(orders) = orders {
            let _ = orders.try_send(Order::End(reason.into()));
        }
    }

    fn send(&self, node: NodeIdx, effect: Effect) {
        let mut table = self.lock();
        let Some(&session) = table.by_node.get(&node) else { return };
        let Some(orders) = table.sessions.get(&session) else { return };
        if orders.try_send(Order::Do(effect, Instant::now())).is_err() {
            // It takes nothing, or has gone: without its sender the session ends.
            tracing::warn!(node = node.0, "the executor does not take its commands; its session is ended");
            table.sessions.remove(&session);
            table.by_node.remove(&node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::id::{JobId, RunNumber, StepId};
    use scheduler_core::effect::RunKey;

    fn acknowledge(node: u32) -> Effect {
        let run = RunKey { job: JobId(1), step: StepId::Batch, run: RunNumber(1) };
        Effect::Acknowledge { node: NodeIdx(node), run }
    }

    fn accepted(session: u64, node: u32) -> Effect {
        Effect::Session { session, node: Some(NodeIdx(node)), refused: None }
    }

    #[test]
    fn a_node_has_one_session_and_the_newer_wins() {
        let dispatch = Dispatch::default();
        dispatch.release(acknowledge(0));
        let (first, mut first_orders) = dispatch.open();
        let (second, mut second_orders) = dispatch.open();
        dispatch.release(accepted(first, 0));
        dispatch.release(acknowledge(0));
        dispatch.release(accepted(second, 0));
        dispatch.release(acknowledge(0));
        assert!(matches!(first_orders.try_recv(), Ok(Order::Accepted(NodeIdx(0)))));
        assert!(matches!(first_orders.try_recv(), Ok(Order::Do(..))));
        assert!(matches!(first_orders.try_recv(), Ok(Order::End(_))));
        assert!(matches!(second_orders.try_recv(), Ok(Order::Accepted(_))));
        assert!(matches!(second_orders.try_recv(), Ok(Order::Do(..))));
        dispatch.close(first);
        assert_eq!(dispatch.connected(), 1);
        dispatch.close(second);
        assert_eq!(dispatch.connected(), 0);
    }

    #[test]
    fn a_session_that_takes_nothing_is_ended() {
        let dispatch = Dispatch::default();
        let (session, mut orders) = dispatch.open();
        dispatch.release(accepted(session, 3));
        for _ in 0..COMMANDS_MAX {
            dispatch.release(acknowledge(3));
        }
        assert_eq!(dispatch.connected(), 0);
        let mut taken = 0;
        while orders.try_recv().is_ok() {
            taken += 1;
        }
        assert_eq!(taken, COMMANDS_MAX);
        assert!(matches!(orders.try_recv(), Err(mpsc::error::TryRecvError::Disconnected)));
    }

    #[test]
    fn a_refused_session_is_told_why() {
        let dispatch = Dispatch::default();
        let (session, mut orders) = dispatch.open();
        dispatch.release(Effect::Session { session, node: None, refused: Some("no such node".into()) });
        assert!(matches!(orders.try_recv(), Ok(Order::End(reason)) if &*reason == "no such node"));
    }
}
