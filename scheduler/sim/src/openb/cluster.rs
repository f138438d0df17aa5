//! Nodes and pods of the trace, and what is free.

use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;

/// The whole of a GPU.
pub const WHOLE: u32 = 1000;

/// What a pod asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pod {
    /// Thousandths of a CPU.
    pub cpu_milli: u32,
    /// Mebibytes.
    pub memory_mib: u32,
    /// What it wants of GPUs.
    pub gpu: Ask,
}

/// What a pod wants of GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ask {
    /// Nothing.
    Nothing,
    /// Thousandths of one GPU, below [`WHOLE`].
    Share(u32),
    /// So many whole GPUs.
    Whole(u32),
}

impl Ask {
    /// Thousandths of a GPU.
    #[must_use]
    pub const fn milli(self) -> u32 {
        match self {
            Self::Nothing => 0,
            Self::Share(milli) => milli,
            Self::Whole(count) => count * WHOLE,
        }
    }
}

/// What is free on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Thousandths of a CPU.
    pub cpu_milli: u32,
    /// Mebibytes.
    pub memory_mib: u32,
    /// Thousandths of each GPU.
    pub gpus: Vec<u32>,
}

impl Node {
    /// Free thousandths over all its GPUs.
    #[must_use]
    pub fn free_milli(&self) -> u32 {
        self.gpus.iter().sum()
    }

    /// How many of its GPUs are entirely free.
    #[must_use]
    pub fn whole_free(&self) -> usize {
        self.gpus.iter().filter(|free| **free == WHOLE).count()
    }

    /// Whether the pod fits.
    #[must_use]
    pub fn fits(&self, pod: &Pod) -> bool {
        let gpu = match pod.gpu {
            Ask::Nothing => true,
            Ask::Share(milli) => self.gpus.iter().any(|free| *free >= milli),
            Ask::Whole(count) => self.whole_free() >= count as usize,
        };
        gpu && self.cpu_milli >= pod.cpu_milli && self.memory_mib >= pod.memory_mib
    }

    /// Takes what the pod asks for, which fits: a share from GPU number `gpu`, whole GPUs lowest first.
    pub fn take(&mut self, pod: &Pod, gpu: usize) {
        self.cpu_milli -= pod.cpu_milli;
        self.memory_mib -= pod.memory_mib;
        match pod.gpu {
            Ask::Nothing => {}
            Ask::Share(milli) => self.gpus[gpu] -= milli,
            Ask::Whole(count) => {
                let free = self.gpus.iter_mut().filter(|free| **free == WHOLE);
                free.take(count as usize).for_each(|free| *free = 0);
            }
        }
    }
}

/// The trace: nodes as they are when empty, pods in file order.
#[derive(Clone, Debug)]
pub struct Openb {
    /// Nodes.
    pub nodes: Vec<Node>,
    /// Pods.
    pub pods: Vec<Pod>,
}

impl Openb {
    /// Reads `nodes.csv` and `pods-default.csv` of a folder, plain or gzip.
    ///
    /// # Errors
    /// A sentence with the file, and where it applies the line and the column.
    pub fn read(folder: &Path) -> Result<Self, String> {
        let node = |row: &Row| {
            let gpus = row.number("gpu")? as usize;
            let (cpu_milli, memory_mib) = (row.number("cpu_milli")?, row.number("memory_mib")?);
            Ok(Node { cpu_milli, memory_mib, gpus: vec![WHOLE; gpus] })
        };
        let pod = |row: &Row| {
            let gpu = match (row.number("num_gpu")?, row.number("gpu_milli")?) {
                (0, _) => Ask::Nothing,
                (1, milli) if milli < WHOLE => Ask::Share(milli),
                (count, _) => Ask::Whole(count),
            };
            let (cpu_milli, memory_mib) = (row.number("cpu_milli")?, row.number("memory_mib")?);
            Ok(Pod { cpu_milli, memory_mib, gpu })
        };
        let nodes = rows(folder, "nodes.csv", node)?;
        let pods = rows(folder, "pods-default.csv", pod)?;
        if nodes.is_empty() || pods.is_empty() {
            return Err(format!("{}: there are no nodes or no pods", folder.display()));
        }
        Ok(Self { nodes, pods })
    }

    /// Thousandths over all GPUs.
    #[must_use]
    pub fn capacity_milli(&self) -> u64 {
        self.nodes.iter().map(|node| u64::from(node.free_milli())).sum()
    }
}

/// A line of a file with its heading.
struct Row<'a> {
    heading: &'a [&'a str],
    fields: Vec<&'a str>,
}

impl Row<'_> {
    fn number(&self, column: &str) -> Result<u32, String> {
        let at = self.heading.iter().position(|name| *name == column);
        let at = at.ok_or_else(|| format!("there is no column {column}"))?;
        let text = self.fields.get(at).copied().unwrap_or_default();
        text.parse().map_err(|_| format!("{column} \"{text}\" is no number"))
    }
}

fn rows<T>(folder: &Path, name: &str, of: impl Fn(&Row) -> Result<T, String>) -> Result<Vec<T>, String> {
    let (path, text) = contents(folder, name)?;
    let mut lines = text.lines();
    let heading: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let one = |(number, line): (usize, &str)| {
        let row = Row { heading: &heading, fields: line.split(',').collect() };
        of(&row).map_err(|error| format!("{path}:{}: {error}", number + 2))
    };
    lines.enumerate().filter(|(_, line)| !line.is_empty()).map(one).collect()
}

/// A file's text, from `name` or else `name.gz`.
fn contents(folder: &Path, name: &str) -> Result<(String, String), String> {
    let mut path = folder.join(name);
    let packed = !path.exists();
    if packed {
        path.set_extension("csv.gz");
    }
    let shown = path.display().to_string();
    let fault = |error: std::io::Error| format!("{shown}: {error}");
    let bytes = std::fs::read(&path).map_err(fault)?;
    let mut text = String::new();
    let mut plain: Box<dyn Read> =
        if packed { Box::new(MultiGzDecoder::new(&bytes[..])) } else { Box::new(&bytes[..]) };
    plain.read_to_string(&mut text).map_err(fault)?;
    Ok((shown, text))
}
