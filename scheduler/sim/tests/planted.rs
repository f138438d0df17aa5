//! The oracles of the whole-cluster simulation see bugs that are planted in the core, one after the other.
//!
//! One test alone: what is planted is planted for the whole process.

use scheduler_core::planted::{Bug, plant};
use scheduler_sim::cluster::{Options, judged};

/// Enough for each; most are seen by one of the first ten.
const SEEDS: u64 = 400;
/// Without a bug none of so many is complained of.
const CLEAN: u64 = 20;

#[test]
fn each_planted_bug_is_seen() {
    // Assertions of the core are among what sees them.
    std::panic::set_hook(Box::new(|_| {}));
    let options = Options { administrator: false, ..Options::default() };
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        plant(Some(bug));
        // Machines of other sizes, and slices, are of the histories with an administrator, who brings them back.
        let own = [Bug::TakeShort, Bug::CountSliceLess, Bug::ForgetClaims, Bug::TellEndFirst];
        let options = Options { administrator: own.contains(&bug), ..options };
        let seen = (0..SEEDS).find_map(|seed| judged(seed, options).err().map(|fault| (seed, fault)));
        match seen {
            Some((_, fault)) => println!("{bug:?}: {}", fault.chars().take(200).collect::<String>()),
            None => missed.push(bug),
        }
    }
    plant(None);
    let clean = (0..CLEAN).find_map(|seed| judged(seed, options).err());
    let _ = std::panic::take_hook();
    assert!(missed.is_empty(), "not seen in {SEEDS} seeds: {missed:?}");
    assert_eq!(clean, None, "without a bug");
}
