//! The rules of the GPU-sharing benchmark: which node, and on it which GPU.

use std::collections::BTreeMap;

use super::cluster::{Ask, Node, Openb, Pod};
use super::fragment::Wishes;
use crate::mig::stream::{below, second_seed};
use crate::random::SplitMix64;

/// A rule. Ties go to the lowest node, then the lowest GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The lowest node that fits.
    FirstFit,
    /// Least free CPU (of the largest node's) plus free GPU (of the largest node's) after placing; then the GPU
    /// with least free share.
    BestFit,
    /// Any node that fits, each as likely.
    Random,
    /// Smallest growth of what the pods could not use.
    Fgd,
    /// Ours: growth of what the pods could not use plus growth of the GPU share that the node's free CPU would
    /// leave idle at the pods' mean CPU per GPU; then least free GPU, then least free CPU.
    Demand,
}

impl Policy {
    /// All, with the names that options take.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::FirstFit, "first-fit"),
        (Self::BestFit, "best-fit"),
        (Self::Random, "random"),
        (Self::Fgd, "fgd"),
        (Self::Demand, "demand"),
    ];

    /// The rule of that name.
    ///
    /// # Errors
    /// A sentence with the names that there are.
    pub fn named(name: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(_, known)| *known == name).map(|&(policy, _)| policy);
        found.ok_or_else(|| {
            let names = Self::ALL.map(|(_, name)| name).join(", ");
            format!("no policy \"{name}\" here; there are: {names}")
        })
    }
}

/// How little a place is liked: smaller is better, compared in order.
type Key = [i64; 3];

/// What a node offers a kind of pod, as of a number of changes of the node.
#[derive(Clone, Copy, Debug)]
struct Offer {
    changes: u32,
    best: Option<(Key, usize)>,
}

/// A rule at work.
#[derive(Debug)]
pub struct Placer {
    policy: Policy,
    nodes: Vec<Node>,
    changes: Vec<u32>,
    wishes: Wishes,
    /// The largest node's CPU and GPU, to which best-fit relates what is free.
    largest: (i64, i64),
    source: SplitMix64,
    /// Per kind of pod: what each node offered last.
    offers: BTreeMap<Pod, Vec<Offer>>,
}

impl Placer {
    /// Before empty nodes.
    #[must_use]
    pub fn new(policy: Policy, trace: &Openb, seed: u64) -> Self {
        let most = |of: fn(&Node) -> u32| i64::from(trace.nodes.iter().map(of).max().unwrap_or(0));
        Self {
            policy,
            nodes: trace.nodes.clone(),
            changes: vec![1; trace.nodes.len()],
            wishes: Wishes::of(&trace.pods),
            largest: (most(|node| node.cpu_milli), most(Node::free_milli)),
            source: SplitMix64(second_seed(seed)),
            offers: BTreeMap::new(),
        }
    }

    /// Places the pod; false if it fits nowhere.
    pub fn place(&mut self, pod: &Pod) -> bool {
        let found = match self.policy {
            Policy::Random => self.draw(pod),
            _ => self.best(pod),
        };
        let Some((node, gpu)) = found else { return false };
        self.nodes[node].take(pod, gpu);
        self.changes[node] += 1;
        true
    }

    /// The best offer of all nodes, the lowest node among equals.
    fn best(&mut self, pod: &Pod) -> Option<(usize, usize)> {
        let none = Offer { changes: 0, best: None };
        let mut offers = self.offers.remove(pod).unwrap_or_else(|| vec![none; self.nodes.len()]);
        let mut found: Option<(Key, usize, usize)> = None;
        for (at, offer) in offers.iter_mut().enumerate() {
            if offer.changes != self.changes[at] {
                *offer = Offer { changes: self.changes[at], best: self.offer(&self.nodes[at], pod) };
            }
            if let Some((key, gpu)) = offer.best
                && found.is_none_or(|(best, ..)| key < best)
            {
                found = Some((key, at, gpu));
            }
        }
        self.offers.insert(*pod, offers);
        found.map(|(_, node, gpu)| (node, gpu))
    }

    /// The node's best GPU for the pod with its key; `None` if the pod does not fit.
    fn offer(&self, node: &Node, pod: &Pod) -> Option<(Key, usize)> {
        if !node.fits(pod) {
            return None;
        }
        let Ask::Share(milli) = pod.gpu else { return Some((self.key(node, pod, 0), 0)) };
        let enough = (0..node.gpus.len()).filter(|&gpu| node.gpus[gpu] >= milli);
        match self.policy {
            // The node is chosen before the GPU, and its key does not depend on it.
            Policy::FirstFit | Policy::Random => enough.map(|gpu| (self.key(node, pod, gpu), gpu)).next(),
            Policy::BestFit => {
                let gpu = enough.min_by_key(|&gpu| (node.gpus[gpu], gpu))?;
                Some((self.key(node, pod, gpu), gpu))
            }
            Policy::Fgd | Policy::Demand => enough.map(|gpu| (self.key(node, pod, gpu), gpu)).min(),
        }
    }

    fn key(&self, node: &Node, pod: &Pod, gpu: usize) -> Key {
        match self.policy {
            Policy::FirstFit | Policy::Random => [0; 3],
            Policy::BestFit => {
                // Both fractions over their common denominator.
                let cpu = i64::from(node.cpu_milli - pod.cpu_milli);
                let free = i64::from(node.free_milli() - pod.gpu.milli());
                [cpu * self.largest.1 + free * self.largest.0, 0, 0]
            }
            Policy::Fgd => [self.growth(node, pod, gpu), 0, 0],
            Policy::Demand => {
                let idle = self.wishes.idle(&Self::after(node, pod, gpu)) - self.wishes.idle(node);
                let growth = self.growth(node, pod, gpu) + idle;
                [growth, i64::from(node.free_milli()), i64::from(node.cpu_milli)]
            }
        }
    }

    /// Growth of the node's fragment by placing the pod.
    fn growth(&self, node: &Node, pod: &Pod, gpu: usize) -> i64 {
        self.wishes.fragment(&Self::after(node, pod, gpu)) - self.wishes.fragment(node)
    }

    /// The node with the pod on it.
    fn after(node: &Node, pod: &Pod, gpu: usize) -> Node {
        let mut after = node.clone();
        after.take(pod, gpu);
        after
    }

    /// Any node that fits, the lowest GPU on it.
    fn draw(&mut self, pod: &Pod) -> Option<(usize, usize)> {
        let fitting: Vec<usize> = (0..self.nodes.len()).filter(|&at| self.nodes[at].fits(pod)).collect();
        let index = (!fitting.is_empty()).then(|| below(&mut self.source, fitting.len() as u64))?;
        let node = fitting[usize::try_from(index).ok()?];
        self.offer(&self.nodes[node], pod).map(|(_, gpu)| (node, gpu))
    }
}
