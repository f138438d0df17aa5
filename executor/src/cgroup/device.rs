//! The device filter of version 2: an eBPF program of our own, put together here and handed to the kernel by `bpf(2)`.
//!
//! The kernel asks it for every open (and mknod) of a device by a process below the directory: it answers 0 for a
//! device that is denied and 1 for all others. Attached with `BPF_F_ALLOW_MULTI`: programs above keep their say. It
//! stays attached without us and goes with the directory.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use super::policy::{Closed, Device};
use crate::sys;

/// `struct bpf_insn`: 8 bytes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction(u64);

/// `BPF_DEVCG_DEV_BLOCK` and `BPF_DEVCG_DEV_CHAR`, in the low half of the context's first field.
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;
/// Offsets in `struct bpf_cgroup_dev_ctx`.
const ACCESS_TYPE: i16 = 0;
const MAJOR: i16 = 4;
const MINOR: i16 = 8;
/// Instructions for one device.
const PER_DEVICE: usize = 5;
/// The verifier of older kernels takes this many instructions.
const INSTRUCTIONS_MAX: usize = 4096;

fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    let registers = destination | (source << 4);
    let offset = u64::from(u16::from_ne_bytes(offset.to_ne_bytes()));
    let immediate = u64::from(u32::from_ne_bytes(immediate.to_ne_bytes()));
    Instruction(u64::from(code) | (u64::from(registers) << 8) | (offset << 16) | (immediate << 32))
}

/// `destination = *(u32 *)(r1 + offset)`.
fn load(destination: u8, offset: i16) -> Instruction {
    instruction(0x61, destination, 1, offset, 0)
}

/// `if register != immediate, skip`.
fn skip_unless(register: u8, immediate: i32, skip: i16) -> Instruction {
    instruction(0x55, register, 0, skip, immediate)
}

/// `if register == immediate, skip`.
fn skip_if(register: u8, immediate: i32, skip: i16) -> Instruction {
    instruction(0x15, register, 0, skip, immediate)
}

/// `r0 = immediate`.
fn answer(immediate: i32) -> Instruction {
    instruction(0xb7, 0, 0, 0, immediate)
}

const EXIT: Instruction = Instruction(0x95);

/// The program that denies these devices, what is closed of a major, and nothing else.
fn program(denied: &[Device], closed: Option<&Closed>) -> Vec<Instruction> {
    // r2: kind, r3: major, r4: minor.
    let mut code =
        vec![load(2, ACCESS_TYPE), instruction(0x57, 2, 0, 0, 0xffff), load(3, MAJOR), load(4, MINOR)];
    for device in denied {
        let kind = if device.block { BLOCK } else { CHARACTER };
        // Numbers of devices have 12 and 20 bits.
        let number = |value: u32| i32::from_ne_bytes(value.to_ne_bytes());
        code.push(skip_unless(2, kind, 4));
        code.push(skip_unless(3, number(device.major), 3));
        code.push(skip_unless(4, number(device.minor), 2));
        code.push(answer(0));
        code.push(EXIT);
    }
    if let Some(closed) = closed {
        let number = |value: u32| i32::from_ne_bytes(value.to_ne_bytes());
        let open = closed.open.len();
        let far = |skip: usize| i16::try_from(skip).expect("the caller bounds the program's length");
        code.push(skip_unless(2, CHARACTER, far(open + 3)));
        code.push(skip_unless(3, number(closed.major), far(open + 2)));
        for (at, minor) in closed.open.iter().enumerate() {
            code.push(skip_if(4, number(*minor), far(open - at - 1 + 2)));
        }
        code.push(answer(0));
        code.push(EXIT);
    }
    code.push(answer(1));
    code.push(EXIT);
    code
}

/// Denies the devices to everything below the directory, for as long as the directory is there.
///
/// # Errors
/// The kernel takes no such program (CAP_BPF or CAP_SYS_ADMIN is missing, or it is too long).
pub(super) fn deny(directory: BorrowedFd<'_>, denied: &[Device], closed: Option<&Closed>) -> io::Result<()> {
    let open = closed.map_or(0, |closed| closed.open.len() + 4);
    if denied.len() * PER_DEVICE + open > INSTRUCTIONS_MAX - 8 {
        return Err(io::Error::other("too many devices for one program"));
    }
    let code: Vec<u64> = program(denied, closed).into_iter().map(|instruction| instruction.0).collect();
    let loaded = sys::load_device_program(&code)?;
    sys::attach_device_program(directory, &loaded)
}

/// Whether such programs are taken here: one that denies nothing is tried on a directory made for it.
pub(super) fn probe(base: &Path) -> Result<(), String> {
    let path = base.join("probe");
    super::place::make(&path).map_err(|error| error.to_string())?;
    let tried = std::fs::File::open(&path).and_then(|open| deny(std::os::fd::AsFd::as_fd(&open), &[], None));
    let _ = std::fs::remove_dir(&path);
    tried.map_err(|error| format!("the kernel takes no device program: {error}"))
}

/// How many device programs are attached to a directory itself.
#[must_use]
pub fn attached(path: &Path) -> Option<u32> {
    let open = std::fs::File::open(path).ok()?;
    sys::count_device_programs(std::os::fd::AsFd::as_fd(&open)).ok()
}

#[cfg(test)]
mod tests {
    use super::{EXIT, PER_DEVICE, answer, instruction, load, program, skip_unless};
    use crate::cgroup::policy::{Closed, Device};

    /// What the kernel would answer: the few instructions that are used, as their manual says.
    fn run(code: &[super::Instruction], kind: u32, access: u32, major: u32, minor: u32) -> i32 {
        let context = [(access << 16) | kind, major, minor];
        let mut registers = [0_u64; 11];
        let mut at = 0;
        loop {
            let word = code[at].0;
            let (code_byte, destination) = ((word & 0xff) as u8, ((word >> 8) & 0xf) as usize);
            let offset = i16::from_ne_bytes((((word >> 16) & 0xffff) as u16).to_ne_bytes());
            let immediate = word >> 32;
            at += 1;
            match code_byte {
                0x61 => registers[destination] = u64::from(context[usize::try_from(offset / 4).unwrap()]),
                0x57 => registers[destination] &= immediate,
                0x15 if registers[destination] == immediate => at += usize::try_from(offset).unwrap(),
                0x15 => {}
                0x55 if registers[destination] != immediate => at += usize::try_from(offset).unwrap(),
                0x55 => {}
                0xb7 => registers[destination] = immediate,
                0x95 => return i32::try_from(registers[0]).unwrap(),
                other => panic!("unknown instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn denies_what_is_named_and_nothing_else() {
        let device = |block, major, minor| Device { gres: "gpu".into(), index: 0, block, major, minor };
        let code = program(&[device(false, 195, 0), device(true, 8, 16), device(false, 195, 255)], None);
        assert_eq!(code.len(), 4 + 3 * PER_DEVICE + 2);
        for access in [1, 2, 4, 6] {
            assert_eq!(run(&code, 2, access, 195, 0), 0);
            assert_eq!(run(&code, 2, access, 195, 255), 0);
            assert_eq!(run(&code, 1, access, 8, 16), 0);
            assert_eq!(run(&code, 2, access, 195, 1), 1, "another minor");
            assert_eq!(run(&code, 1, access, 195, 0), 1, "a block device of the same number");
            assert_eq!(run(&code, 2, access, 1, 3), 1);
        }
        assert_eq!(run(&program(&[], None), 2, 2, 1, 3), 1);
    }

    #[test]
    fn a_closed_major_has_its_holes_and_no_others() {
        let device = Device { gres: "gpu".into(), index: 0, block: false, major: 195, minor: 1 };
        for open in [vec![], vec![12, 13]] {
            let closed = Closed { major: 237, all: Vec::new(), open: open.clone() };
            let code = program(std::slice::from_ref(&device), Some(&closed));
            for minor in [1, 2, 12, 13, 14, 900] {
                let expected = i32::from(open.contains(&minor));
                assert_eq!(run(&code, 2, 2, 237, minor), expected, "{minor} of {open:?}");
                assert_eq!(run(&code, 1, 2, 237, minor), 1, "a block device");
                assert_eq!(run(&code, 2, 2, 1, minor), 1, "another major");
            }
            assert_eq!(run(&code, 2, 2, 195, 1), 0);
        }
    }

    #[test]
    fn instructions_have_the_kernels_bytes() {
        // As in linux/filter.h: BPF_LDX_MEM(BPF_W, 2, 1, 4), BPF_JMP_IMM(BPF_JNE, 2, 1, 4), BPF_MOV64_IMM(0, 1).
        assert_eq!(load(2, 4).0.to_le_bytes(), [0x61, 0x12, 4, 0, 0, 0, 0, 0]);
        assert_eq!(skip_unless(2, 1, 4).0.to_le_bytes(), [0x55, 2, 4, 0, 1, 0, 0, 0]);
        assert_eq!(answer(1).0.to_le_bytes(), [0xb7, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(EXIT.0.to_le_bytes(), [0x95, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(instruction(0x57, 2, 0, 0, 0xffff).0.to_le_bytes(), [0x57, 2, 0, 0, 0xff, 0xff, 0, 0]);
    }
}
