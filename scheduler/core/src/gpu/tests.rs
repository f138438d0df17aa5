//! The tables against a search that knows only the placement list, and the index against plain scans.

use std::collections::{BTreeMap, BTreeSet};

use super::fleet::Fleet;
use super::geometry::{COMPUTE_SLICES, MEMORY_SLICES, Occupancy, Placement, Profile};
use super::layout::{LAYOUTS, Layout};
use super::mix::{Mix, Observed};
use super::model::Model;
use super::outlook::{INSTANTS, Outlook};
use super::policy::{Policy, Rule};

/// The published list, written down once more: profile, compute slices, memory slices, starts.
const LISTED: [(Profile, u32, u32, &[u32]); 6] = [
    (Profile::OneG, 1, 1, &[0, 1, 2, 3, 4, 5, 6]),
    (Profile::OneGWide, 1, 2, &[0, 2, 4, 6]),
    (Profile::TwoG, 2, 2, &[0, 2, 4]),
    (Profile::ThreeG, 3, 4, &[0, 4]),
    (Profile::FourG, 4, 4, &[0]),
    (Profile::SevenG, 7, 8, &[0]),
];
const CLASSIC: [Profile; 5] =
    [Profile::OneG, Profile::TwoG, Profile::ThreeG, Profile::FourG, Profile::SevenG];

type Set = BTreeSet<(Profile, u32)>;

/// Every set of placements without a shared slice, by adding one placement at a time in every order.
fn search(profiles: &[Profile]) -> BTreeSet<Set> {
    let slices = |profile: Profile, start: u32| {
        let (_, _, memory, _) = LISTED[profile.index()];
        (start..start + memory).collect::<BTreeSet<u32>>()
    };
    let mut found = BTreeSet::from([Set::new()]);
    let mut open = vec![Set::new()];
    while let Some(set) = open.pop() {
        let taken: BTreeSet<u32> = set.iter().flat_map(|&(profile, start)| slices(profile, start)).collect();
        for &(profile, _, _, starts) in LISTED.iter().filter(|row| profiles.contains(&row.0)) {
            for &start in starts.iter().filter(|start| slices(profile, **start).is_disjoint(&taken)) {
                let mut more = set.clone();
                more.insert((profile, start));
                if found.insert(more.clone()) {
                    open.push(more);
                }
            }
        }
    }
    found
}

fn set_of(layout: Layout) -> Set {
    layout.placements().map(|p| (p.profile, u32::from(p.start))).collect()
}

#[test]
fn counts_are_the_known_ones() {
    for (profiles, sets, maximal, multisets) in
        [(&CLASSIC[..], 298, 19, 14), (&Profile::ALL[..], 723, 78, 38)]
    {
        let found = search(profiles);
        assert_eq!(found.len(), sets);
        let is_maximal =
            |set: &&Set| !found.iter().any(|other| other.len() > set.len() && other.is_superset(set));
        let full: Vec<&Set> = found.iter().filter(is_maximal).collect();
        assert_eq!(full.len(), maximal);
        let kinds = |set: &&Set| set.iter().map(|(profile, _)| *profile).collect::<Vec<_>>();
        assert_eq!(full.iter().map(kinds).collect::<BTreeSet<_>>().len(), multisets);
        // The tables say the same.
        let of_profiles = |layout: &Layout| layout.placements().all(|p| profiles.contains(&p.profile));
        let layouts: Vec<Layout> = Layout::all().filter(of_profiles).collect();
        assert_eq!(layouts.iter().map(|&layout| set_of(layout)).collect::<BTreeSet<_>>(), found);
        assert_eq!(layouts.iter().filter(|layout| layout.is_maximal(profiles)).count(), maximal);
    }
}

#[test]
fn every_transition_and_loss_agrees_with_the_search() {
    let numbers: BTreeMap<Set, Layout> = Layout::all().map(|layout| (set_of(layout), layout)).collect();
    assert_eq!(numbers.len(), LAYOUTS);
    let room = |set: &Set, profile: Profile| {
        let fits = |start: &&u32| {
            let mut more = set.clone();
            more.insert((profile, **start)) && numbers.contains_key(&more)
        };
        LISTED[profile.index()].3.iter().filter(fits).count() as u32
    };
    for (set, &layout) in &numbers {
        assert_eq!(Layout::of_number(layout.number()), Some(layout));
        assert_eq!(Layout::of(layout.placements()), Some(layout));
        for placement in Placement::ALL {
            let one = (placement.profile, u32::from(placement.start));
            let (mut more, mut less) = (set.clone(), set.clone());
            let added = if more.insert(one) { numbers.get(&more).copied() } else { None };
            assert_eq!(layout.with(placement), added, "{set:?} {placement:?}");
            let removed = if less.remove(&one) { numbers.get(&less).copied() } else { None };
            assert_eq!(layout.without(placement), removed, "{set:?} {placement:?}");
            if added.is_some() {
                let lost = Profile::ALL.map(|profile| room(set, profile) - room(&more, profile));
                assert_eq!(layout.lost(placement), lost, "{set:?} {placement:?}");
            }
        }
        for profile in Profile::ALL {
            assert_eq!(layout.occupancy().room(profile), room(set, profile), "{set:?} {profile:?}");
        }
    }
    assert_eq!(Layout::of_number(LAYOUTS as u16), None);
    assert_eq!(Layout::EMPTY.with(Placement { profile: Profile::ThreeG, start: 2 }), None);
}

#[test]
fn compute_slices_never_run_out_before_memory() {
    for layout in Layout::all() {
        assert!(layout.placements().map(|p| p.profile.compute_slices()).sum::<u32>() <= COMPUTE_SLICES);
        let memory: u32 = layout.placements().map(|p| p.profile.memory_slices()).sum();
        assert_eq!(MEMORY_SLICES - memory, layout.occupancy().free_slices());
    }
    for (profile, compute, memory, _) in LISTED {
        assert_eq!((profile.compute_slices(), profile.memory_slices()), (compute, memory));
    }
    let states: BTreeSet<Occupancy> = Layout::all().map(Layout::occupancy).collect();
    assert_eq!(states.len(), 192);
}

#[test]
fn names_lead_back_to_profiles() {
    for model in Model::ALL {
        for profile in Profile::ALL {
            assert_eq!(model.profile(&model.name(profile)), Some(profile));
        }
    }
    assert_eq!(Model::A100With40.profile("1g.10gb"), Some(Profile::OneGWide));
    assert_eq!(Model::H100With80.profile("1g.10gb"), Some(Profile::OneG));
    assert_eq!(Model::H200.profile("3g.40gb"), None);
    assert_eq!(Model::H100With80.at_least(20), Some(Profile::OneGWide));
    assert_eq!(Model::B200.at_least(181), None);
}

/// A small generator, so that this file needs no other crate.
fn draw(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*state >> 33).expect("31 bits")
}

#[test]
fn the_index_chooses_as_a_scan_does() {
    chooses_as_a_scan_does(70, 50);
}

#[test]
fn the_index_plays_the_endgame_as_a_scan_does() {
    chooses_as_a_scan_does(2, 3);
    chooses_as_a_scan_does(4, 6);
}

fn chooses_as_a_scan_does(gpus: usize, most: usize) {
    let mix = Mix::new([30, 15, 5, 5, 15, 30]).unwrap();
    for (policy, name) in Policy::ALL {
        let rule = Rule::new(policy, &mix);
        let mut fleet = Fleet::new(gpus, Rule::new(Policy::FirstFit, &mix));
        fleet.set_rule(rule.clone());
        let (mut placed, mut longest): (Vec<(usize, Placement)>, usize) = (Vec::new(), 0);
        let mut seed = 7;
        for _ in 0..1500 {
            if draw(&mut seed) % 5 < 2 && !placed.is_empty() {
                let (gpu, placement) = placed.swap_remove(draw(&mut seed) % placed.len());
                fleet.remove(gpu, placement);
            }
            let profile = Profile::ALL[draw(&mut seed) % 6];
            let chosen = fleet.choose(profile);
            assert_eq!(chosen, rule.choose(fleet.taken(), profile), "{name} {profile:?}");
            let places: u64 = fleet.taken().iter().map(|taken| u64::from(taken.room(profile))).sum();
            assert_eq!(fleet.places(profile), places);
            // Among some: the others are as good as full.
            let bit = draw(&mut seed) % 3;
            let eligible = |gpu: usize| gpu % 3 != bit;
            let mut words = [0_u64; 2];
            (0..gpus).filter(|&gpu| eligible(gpu)).for_each(|gpu| words[gpu / 64] |= 1 << (gpu % 64));
            let hidden = |gpu: usize| eligible(gpu) && gpu % 7 != 1;
            let scanned: Vec<Occupancy> = (0..gpus)
                .map(|gpu| if hidden(gpu) { fleet.taken()[gpu] } else { Occupancy(u8::MAX) })
                .collect();
            let best = fleet.best_among(profile, &words, 4, |gpu| gpu % 7 != 1);
            let start = |gpu: usize| rule.start(fleet.taken()[gpu], profile).unwrap();
            let among = best.first().map(|&gpu| (gpu, start(gpu)));
            let fitting = (0..gpus).filter(|&gpu| rule.start(scanned[gpu], profile).is_some()).count();
            assert_eq!(best.len(), fitting.min(4), "{name} {profile:?}");
            if let Some(last) = fleet.last_among(profile, &words, hidden) {
                let taken: Vec<Occupancy> = last.iter().map(|&gpu| fleet.taken()[gpu]).collect();
                let place = rule.choose(&taken, profile).map(|(at, start)| (last[at], start));
                assert_eq!(place, rule.choose(&scanned, profile), "{name} {profile:?}");
            }
            // Where nothing changes, time makes no difference.
            let steady: Vec<Outlook> = fleet.taken().iter().map(|&taken| Outlook::steady(taken)).collect();
            assert_eq!(rule.choose_over_time(&steady, profile), chosen, "{name} {profile:?}");
            assert_eq!(
                rule.choose_of_many_over_time(&steady, profile),
                rule.choose_of_many(fleet.taken(), profile),
                "{name} {profile:?}"
            );
            let expected = match policy {
                // A duel with a GPU that is found too small afterwards may change who meets whom.
                Policy::Demand | Policy::DemandObserved => among,
                _ => rule.choose(&scanned, profile),
            };
            assert_eq!(among, expected, "{name} {profile:?}");
            assert_eq!(among.is_some(), rule.choose(&scanned, profile).is_some(), "{name} {profile:?}");
            assert!(among.is_none_or(|(gpu, _)| hidden(gpu)), "{name} {profile:?}");
            if let Some((gpu, start)) = chosen {
                fleet.add(gpu, Placement { profile, start });
                placed.push((gpu, Placement { profile, start }));
                longest = longest.max(placed.len());
            }
        }
        assert!(longest >= most, "{name} placed something");
    }
}

#[test]
fn what_ends_soon_is_as_good_as_free() {
    let mix = Mix::new([30, 15, 5, 5, 15, 30]).unwrap();
    let rule = Rule::new(Policy::Demand, &mix);
    let half = Occupancy(0x0f);
    // Half of each GPU is taken; on the first one only now.
    let soon = Outlook { taken: half, later: [half, Occupancy::EMPTY, Occupancy::EMPTY, Occupancy::EMPTY] };
    assert_eq!(soon.later.len(), INSTANTS);
    let late = Outlook::steady(half);
    for gpus in [[soon, late], [late, soon]] {
        let (at, start) = rule.choose_over_time(&gpus, Profile::ThreeG).unwrap();
        assert_eq!((gpus[at], start), (late, 4), "the other GPU will be empty");
    }
}

#[test]
fn places_are_counted_in_order_of_gpu_then_start() {
    let mut fleet = Fleet::new(2, Rule::new(Policy::Random, &Mix::EVEN));
    fleet.add(0, Placement { profile: Profile::ThreeG, start: 0 });
    let places: Vec<(usize, u8)> = (0..6).map_while(|index| fleet.place(Profile::TwoG, index)).collect();
    assert_eq!(places, [(0, 4), (1, 0), (1, 2), (1, 4)]);
    assert_eq!(fleet.places(Profile::TwoG), 4);
}

#[test]
fn the_mix_is_learned_and_forgotten() {
    let mut observed = Observed::new();
    let mut fresh = 0;
    for _ in 0..10_000 {
        fresh += u32::from(observed.saw(Profile::SevenG));
    }
    let weights = observed.mix().weights();
    assert!(weights[5] > 9_000 && weights[0] < 10, "{weights:?}");
    assert!((40..200).contains(&fresh), "{fresh} changes of the mix");
    for _ in 0..60_000 {
        observed.saw(Profile::OneG);
    }
    let weights = observed.mix().weights();
    assert!(weights[0] > 10 * weights[5] && weights[5] > 0, "{weights:?}");
    assert_eq!(Mix::new([0; 6]), None);
}

#[test]
fn policies_have_names_of_their_own() {
    for (policy, name) in Policy::ALL {
        assert_eq!((Policy::named(name), policy.name()), (Some(policy), name));
    }
    assert_eq!(Policy::named("second-fit"), None);
}
