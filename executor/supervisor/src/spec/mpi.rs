//! What the tasks of a step are served so that they find each other (`srun --mpi`).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::wire::{Error, Reader, Writer};

/// Who serves them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// The supervisor itself, in the words of PMI-1 and PMI-2.
    Pmi,
    /// A program of its own, which gets the step's exchange stream as its standard input and output.
    Helper(Vec<u8>),
}

/// The service of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mpi {
    /// By whom.
    pub server: Server,
    /// This node's place in the step.
    pub node_index: u32,
    /// The step's nodes, by name.
    pub nodes: Vec<String>,
    /// The node of each rank, as a place in `nodes`; as many as the step has tasks.
    pub places: Vec<u32>,
    /// How the names of the folders begin that a helper makes for files of the step: a dot and more follows.
    pub folder: Vec<u8>,
}

impl Mpi {
    pub(super) fn put(&self, out: &mut Writer<'_>) {
        match &self.server {
            Server::Pmi => out.u8(0),
            Server::Helper(program) => {
                out.u8(1);
                out.bytes(program);
            }
        }
        out.u32(self.node_index);
        out.list(&self.nodes, |out, node| out.bytes(node.as_bytes()));
        out.list(&self.places, |out, place| out.u32(*place));
        out.bytes(&self.folder);
    }

    pub(super) fn get(fields: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self {
            server: match fields.u8("server")? {
                0 => Server::Pmi,
                1 => Server::Helper(fields.bytes("helper")?),
                _ => return Err(Error::Value { what: "server" }),
            },
            node_index: fields.u32("node")?,
            nodes: fields.list("nodes", |fields| fields.text("node"))?,
            places: fields.list("places", |fields| fields.u32("place"))?,
            folder: fields.bytes("folder")?,
        })
    }

    /// `PMI_process_mapping`: blocks of (first node, nodes, ranks on each) in the order of the ranks.
    ///
    /// Source: MPICH's parser of `(vector,(0,2,2))`, which repeats the blocks until all ranks have a node.
    #[must_use]
    pub fn process_mapping(&self) -> String {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for place in &self.places {
            match runs.last_mut() {
                Some((last, count)) if last == place => *count += 1,
                _ => runs.push((*place, 1)),
            }
        }
        let mut blocks: Vec<(u32, u32, u32)> = Vec::new();
        for (node, each) in runs {
            match blocks.last_mut() {
                Some((first, nodes, same)) if *same == each && *first + *nodes == node => *nodes += 1,
                _ => blocks.push((node, 1, each)),
            }
        }
        let blocks: String =
            blocks.iter().map(|(first, nodes, each)| format!(",({first},{nodes},{each})")).collect();
        format!("(vector{blocks})")
    }
}

/// Removes the folders that helpers have left, by how their names begin (a path); `keep` is asked about the rest of a name.
/// Links are not followed: who takes such a name loses nothing but that folder. Cost: a look at each entry of the folder above.
pub fn remove_folders(begin: &[u8], keep: &dyn Fn(&str) -> bool) {
    let begin = Path::new(OsStr::from_bytes(begin));
    let (Some(above), Some(name)) = (begin.parent(), begin.file_name().and_then(OsStr::to_str)) else {
        return;
    };
    for entry in std::fs::read_dir(above).into_iter().flatten().flatten() {
        let found = entry.file_name();
        let Some(rest) = found.to_str().and_then(|found| found.strip_prefix(name)?.strip_prefix('.')) else {
            continue;
        };
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !keep(rest) {
            // Gone meanwhile is as good.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn folders_that_are_left_are_removed_and_others_are_not() {
        let above = std::env::temp_dir().join(format!("sluice-left-{}", std::process::id()));
        for name in ["p.n1.7.0.1.55.0", "p.n1.7.1.1.56.0", "p.n10.7.0.1.55.0", "q"] {
            std::fs::create_dir_all(above.join(name).join("inside")).unwrap();
        }
        std::os::unix::fs::symlink(above.join("q"), above.join("p.n1.link")).unwrap();
        let begin = above.join("p.n1").into_os_string().into_encoded_bytes();
        super::remove_folders(&begin, &|rest| rest.starts_with("7.1.1."));
        let mut left: Vec<String> = std::fs::read_dir(&above)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        std::fs::remove_dir_all(&above).unwrap();
        assert_eq!(left, ["p.n1.7.1.1.56.0", "p.n1.link", "p.n10.7.0.1.55.0", "q"]);
    }

    use super::{Mpi, Server};

    #[test]
    fn ranks_are_mapped_in_blocks() {
        let check = |places: &[u32], expected: &str| {
            let mpi = Mpi {
                server: Server::Pmi,
                node_index: 0,
                nodes: Vec::new(),
                places: places.to_vec(),
                folder: Vec::new(),
            };
            assert_eq!(mpi.process_mapping(), expected);
        };
        check(&[0, 0, 1, 1], "(vector,(0,2,2))");
        check(&[0, 1, 0, 1], "(vector,(0,2,1),(0,2,1))");
        check(&[0, 0, 0, 1], "(vector,(0,1,3),(1,1,1))");
        check(&[1, 0], "(vector,(1,1,1),(0,1,1))");
        check(&[0], "(vector,(0,1,1))");
    }
}
