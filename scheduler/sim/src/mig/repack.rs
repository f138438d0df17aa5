//! Whether counts of instances fit a number of GPUs when everything may be rearranged: a bound, no rule.

/// Instances per profile, in the order of `Profile::ALL`.
pub type Counts = [u64; 6];

/// Whether some arrangement of the counts fits `gpus` GPUs. Closed form of `tests/traces/README.md`.
#[must_use]
pub fn counts_fit(&[n1, n1b, n2, n3, n4, n7]: &Counts, gpus: u64) -> bool {
    let Some(halves) = gpus.checked_sub(n7) else { return false };
    // A 3g goes to an upper half first, where a 4g cannot be.
    let upper3 = n3.min(halves);
    let lower3 = n3 - upper3;
    if n4 + lower3 > halves {
        return false;
    }
    // Pairs of slices that take a 2g, and those at slices 6 and 7, which take a 1g alone or a wide one.
    let full = 2 * (halves - n4 - lower3) + (halves - upper3);
    let weak = halves - upper3;
    let weak_wide = n1b.min(weak);
    let weak_one = n1.min(weak - weak_wide);
    n2 + (n1b - weak_wide) + (n1 - weak_one).div_ceil(2) <= full
}

#[cfg(test)]
mod tests {
    use super::counts_fit;
    use scheduler_core::gpu::layout::Layout;
    use std::collections::BTreeSet;

    #[test]
    fn agrees_with_every_layout_of_one_and_two_gpus() {
        let count = |layout: Layout| {
            let mut counts = [0_u64; 6];
            layout.placements().for_each(|p| counts[p.profile.index()] += 1);
            counts
        };
        let one: BTreeSet<[u64; 6]> = Layout::all().map(count).collect();
        assert_eq!(one.len(), 78);
        let sum = |a: &[u64; 6], b: &[u64; 6]| std::array::from_fn(|i| a[i] + b[i]);
        let two: BTreeSet<[u64; 6]> = one.iter().flat_map(|a| one.iter().map(move |b| sum(a, b))).collect();
        for (gpus, fitting) in [(1, &one), (2, &two)] {
            let mut counts = [0_u64; 6];
            loop {
                assert_eq!(counts_fit(&counts, gpus), fitting.contains(&counts), "{counts:?} on {gpus}");
                let most = [15, 9, 7, 5, 3, 3];
                let Some(at) = (0..6).find(|&i| counts[i] < most[i]) else { break };
                counts[..at].fill(0);
                counts[at] += 1;
            }
        }
    }
}
