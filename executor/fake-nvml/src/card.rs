//! The GPUs that can be pretended, with their MIG profiles.
//!
//! Placements are those of the NVIDIA MIG User Guide; a 3g takes four memory slices. Memory and multiprocessors
//! are published figures for the A100 and the H100; for H200 and B200 memory is eighths of the whole and the
//! multiprocessors of the B200 are stand-ins.

/// A MIG profile of a card.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// What creation and placement calls take.
    pub id: u32,
    /// What the profile query takes (`NVML_GPU_INSTANCE_PROFILE_…`): another number.
    pub enumerator: u32,
    /// Compute slices.
    pub compute: u32,
    /// Memory slices.
    pub memory: u32,
    /// First memory slices that are legal.
    pub starts: &'static [u32],
    /// Most instances on a GPU.
    pub most: u32,
    /// Whether it carries the media engines, of which there is one set.
    pub media: bool,
    /// Position in a card's tables of sizes.
    size: usize,
}

/// All profiles, as `nvidia-smi mig -lgip` lists them.
pub const PROFILES: [Profile; 7] = [
    Profile {
        id: 19,
        enumerator: 0,
        compute: 1,
        memory: 1,
        starts: &[0, 1, 2, 3, 4, 5, 6],
        most: 7,
        media: false,
        size: 0,
    },
    Profile {
        id: 20,
        enumerator: 7,
        compute: 1,
        memory: 1,
        starts: &[0, 1, 2, 3, 4, 5, 6],
        most: 1,
        media: true,
        size: 0,
    },
    Profile {
        id: 15,
        enumerator: 9,
        compute: 1,
        memory: 2,
        starts: &[0, 2, 4, 6],
        most: 4,
        media: false,
        size: 1,
    },
    Profile {
        id: 14,
        enumerator: 1,
        compute: 2,
        memory: 2,
        starts: &[0, 2, 4],
        most: 3,
        media: false,
        size: 2,
    },
    Profile { id: 9, enumerator: 2, compute: 3, memory: 4, starts: &[0, 4], most: 2, media: false, size: 3 },
    Profile { id: 5, enumerator: 3, compute: 4, memory: 4, starts: &[0], most: 1, media: false, size: 4 },
    Profile { id: 0, enumerator: 4, compute: 7, memory: 8, starts: &[0], most: 1, media: false, size: 5 },
];

/// A GPU product.
#[derive(Clone, Copy, Debug)]
pub struct Card {
    /// As written in the state file.
    pub key: &'static str,
    /// As NVML names it.
    pub name: &'static str,
    /// The whole memory in MiB.
    pub memory_mib: u64,
    /// Memory in MiB and multiprocessors of 1g, double-memory 1g, 2g, 3g, 4g, 7g; `None` without MIG.
    pub sizes: Option<[(u64, u32); 6]>,
    /// The gigabytes in the profiles' names, in the same order.
    gigabytes: [u32; 6],
    /// The PCI device and vendor number.
    pub pci_device: u32,
    /// NVLinks: to the others of up to four, in equal shares; into switches where there are more.
    pub nvlinks: u32,
}

/// All cards.
pub const CARDS: [Card; 6] = [
    Card {
        key: "a100-40",
        name: "NVIDIA A100-SXM4-40GB",
        memory_mib: 40_960,
        sizes: Some([(4_864, 14), (9_856, 14), (9_856, 28), (19_968, 42), (19_968, 56), (40_192, 98)]),
        gigabytes: [5, 10, 10, 20, 20, 40],
        pci_device: 0x20b0_10de,
        nvlinks: 12,
    },
    Card {
        key: "a100-80",
        name: "NVIDIA A100-SXM4-80GB",
        memory_mib: 81_920,
        sizes: Some([(9_856, 14), (19_968, 14), (19_968, 28), (40_192, 42), (40_192, 56), (80_384, 98)]),
        gigabytes: [10, 20, 20, 40, 40, 80],
        pci_device: 0x20b2_10de,
        nvlinks: 12,
    },
    Card {
        key: "h100-80",
        name: "NVIDIA H100 80GB HBM3",
        memory_mib: 81_559,
        sizes: Some([(9_984, 16), (20_096, 26), (20_096, 32), (40_448, 60), (40_448, 64), (81_152, 132)]),
        gigabytes: [10, 20, 20, 40, 40, 80],
        pci_device: 0x2330_10de,
        nvlinks: 18,
    },
    Card {
        key: "h200",
        name: "NVIDIA H200",
        memory_mib: 143_771,
        sizes: Some([(17_971, 16), (35_942, 26), (35_942, 32), (71_885, 60), (71_885, 64), (143_771, 132)]),
        gigabytes: [18, 35, 35, 71, 71, 141],
        pci_device: 0x2335_10de,
        nvlinks: 18,
    },
    Card {
        key: "b200",
        name: "NVIDIA B200",
        memory_mib: 183_359,
        sizes: Some([(22_919, 18), (45_839, 30), (45_839, 36), (91_679, 70), (91_679, 72), (183_359, 148)]),
        gigabytes: [23, 45, 45, 90, 90, 180],
        pci_device: 0x2901_10de,
        nvlinks: 18,
    },
    Card {
        key: "rtx5090",
        name: "NVIDIA GeForce RTX 5090",
        memory_mib: 32_607,
        sizes: None,
        gigabytes: [0; 6],
        pci_device: 0x2b85_10de,
        nvlinks: 0,
    },
];

impl Card {
    /// The card of that key.
    #[must_use]
    pub fn named(key: &str) -> Option<&'static Self> {
        CARDS.iter().find(|card| card.key == key)
    }

    /// Memory in MiB and multiprocessors of a profile; `None` without MIG.
    #[must_use]
    pub fn size(&self, profile: &Profile) -> Option<(u64, u32)> {
        self.sizes.map(|sizes| sizes[profile.size])
    }

    /// The profile's name, as in `1g.10gb+me`.
    #[must_use]
    pub fn profile_name(&self, profile: &Profile) -> String {
        let media = if profile.media { "+me" } else { "" };
        format!("{}g.{}gb{media}", profile.compute, self.gigabytes[profile.size])
    }
}

impl Profile {
    /// The profile with that id.
    #[must_use]
    pub fn of_id(id: u32) -> Option<&'static Self> {
        PROFILES.iter().find(|profile| profile.id == id)
    }

    /// The profile of that query number.
    #[must_use]
    pub fn of_enumerator(enumerator: u32) -> Option<&'static Self> {
        PROFILES.iter().find(|profile| profile.enumerator == enumerator)
    }

    /// The id that the driver gives an instance of it at `start`: it follows from size and place, so that it
    /// comes again when the instance is made again.
    #[must_use]
    pub const fn instance_id(&self, start: u32) -> u32 {
        match self.memory {
            8 => 0,
            4 => 1 + start / 4,
            2 => 3 + start / 2,
            _ => 7 + start,
        }
    }
}
