//! `--gpu-bind`, and `--tres-bind` of GPUs: which of a step's GPUs each task is told of. Pure.
//!
//! Source: srun's manual. Only what is visible is bound: a task's variables name its GPUs, the step's cgroup lets all of
//! the step's be opened.

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuBind {
    /// Each task says what it is bound to.
    pub verbose: bool,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// No binding, whatever else would bind.
    Nothing,
    /// Those near the task's processors.
    Closest,
    /// One, shared by so many tasks.
    Single(u32),
    /// So many for each task.
    PerTask(u32),
    /// One for each task, by number.
    Map(Vec<u32>),
    /// Several for each task, by number.
    Mask(Vec<Vec<u32>>),
}

/// The most entries of a list, repeated ones counted each time.
const LIST_MAX: usize = 4096;

impl GpuBind {
    /// The text of what is asked for, where each task is to have `each` GPUs (`--gpus-per-task`, 0: not said): that binds as
    /// `per_task` does, unless another binding is asked for. Source: `man srun`.
    #[must_use]
    pub fn with_each(asked: Option<&str>, each: u64) -> Option<String> {
        let implied = (each > 0).then(|| format!("per_task:{each}"));
        match (asked, implied) {
            (Some(level @ ("verbose" | "v" | "quiet" | "q")), Some(implied)) => {
                Some(format!("{level},{implied}"))
            }
            (Some(asked), _) => Some(asked.to_owned()),
            (None, implied) => implied,
        }
    }

    /// The numbers that a map or a mask has for a task; `None`: it is neither.
    #[must_use]
    pub fn numbers(&self, local: usize) -> Option<Vec<u32>> {
        match &self.kind {
            Kind::Map(numbers) => Some(vec![numbers[local % numbers.len()]]),
            Kind::Mask(masks) => Some(masks[local % masks.len()].clone()),
            Kind::Nothing | Kind::Closest | Kind::Single(_) | Kind::PerTask(_) => None,
        }
    }

    /// Reads the option's text; `None` where it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut verbose = false;
        let mut rest = text.trim();
        while let Some((word, after)) = rest.split_once(',') {
            match word.to_ascii_lowercase().as_str() {
                "verbose" | "v" => verbose = true,
                "quiet" | "q" => verbose = false,
                _ => break,
            }
            rest = after;
        }
        let lower = rest.to_ascii_lowercase();
        let (name, value) =
            lower.split_once(':').map_or((lower.as_str(), None), |(name, value)| (name, Some(value)));
        let kind = match (name, value) {
            ("none", None) => Kind::Nothing,
            ("closest", None) => Kind::Closest,
            ("single", Some(value)) => Kind::Single(positive(value)?),
            ("per_task", Some(value)) => Kind::PerTask(positive(value)?),
            ("map_gpu", Some(value)) => Kind::Map(list(value, &|item| item.parse().ok())?),
            ("mask_gpu", Some(value)) => Kind::Mask(list(value, &mask)?),
            // The level alone binds nothing.
            ("verbose" | "v", None) => return Some(Self { verbose: true, kind: Kind::Closest }),
            ("quiet" | "q", None) => return Some(Self { verbose: false, kind: Kind::Closest }),
            _ => return None,
        };
        Some(Self { verbose, kind })
    }

    /// What `--tres-bind` says of GPUs, as `--gpu-bind` spells it: `gres/gpu:map:0,1` is `map_gpu:0,1`. `None`: nothing.
    ///
    /// # Errors
    /// A sentence that names the part which is no binding, or binds what is no GPU: tasks are told of GPUs only.
    pub fn of_tres(text: &str) -> Result<Option<String>, String> {
        let mut found = None;
        for part in text.split('+') {
            let Some((tres, how)) = part.trim().split_once(':') else {
                return Err(format!("\"{part}\" is no binding: gres/gpu:[verbose,]TYPE is expected"));
            };
            match tres.to_ascii_lowercase().as_str() {
                "gres/gpu" => {}
                // Nothing but GPUs is ever bound.
                tres if tres.starts_with("gres/") && how.eq_ignore_ascii_case("none") => continue,
                _ => return Err(format!("\"{part}\": only gres/gpu can be bound to tasks")),
            }
            let how = how.to_ascii_lowercase();
            let (level, kind) = match how.split_once(',') {
                Some((level @ ("verbose" | "v" | "quiet" | "q"), kind)) => (format!("{level},"), kind),
                Some(_) | None => (String::new(), how.as_str()),
            };
            let kind = match kind.split_once(':') {
                Some((name @ ("map" | "mask"), list)) => format!("{name}_gpu:{list}"),
                Some(_) | None => kind.to_owned(),
            };
            let spelled = level + &kind;
            if Self::parse(&spelled).is_none() {
                return Err(format!("\"{part}\" is no binding of GPUs"));
            }
            if found.replace(spelled).is_some() {
                return Err(format!("\"{part}\": gres/gpu is bound twice"));
            }
        }
        Ok(found)
    }

    /// The places among the step's `count` devices on this node that the task at place `local` is told of; `None`: all,
    /// and nothing is said. `near` says whether a device is near the task's processors, `position` where the device of
    /// a number is. Numbers that the step does not have are left out.
    #[must_use]
    pub fn chosen(
        &self,
        local: usize,
        count: usize,
        near: &dyn Fn(usize) -> bool,
        position: &dyn Fn(u32) -> Option<usize>,
    ) -> Option<Vec<usize>> {
        if count == 0 {
            return None;
        }
        let close = || {
            let close: Vec<usize> = (0..count).filter(|at| near(*at)).collect();
            if close.is_empty() { (0..count).collect() } else { close }
        };
        let found = match &self.kind {
            Kind::Nothing => return None,
            Kind::Closest => close(),
            Kind::Single(tasks) => {
                let close = close();
                vec![close[local / *tasks as usize % close.len()]]
            }
            Kind::PerTask(gpus) => {
                let (first, gpus) = (local * *gpus as usize, *gpus as usize);
                let mut found: Vec<usize> = (first..first + gpus.min(count)).map(|at| at % count).collect();
                found.sort_unstable();
                found
            }
            Kind::Map(numbers) => position(numbers[local % numbers.len()]).into_iter().collect(),
            Kind::Mask(masks) => masks[local % masks.len()].iter().filter_map(|bit| position(*bit)).collect(),
        };
        Some(found)
    }
}

fn positive(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number > 0)
}

/// Items between commas, each perhaps with `*N`.
fn list<T: Clone>(text: &str, read: &dyn Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    let mut found = Vec::new();
    for item in text.split(',') {
        let (item, times) = item
            .split_once('*')
            .map_or(Some((item, 1)), |(item, times)| Some((item, positive(times)? as usize)))?;
        if found.len() + times > LIST_MAX {
            return None;
        }
        found.extend(std::iter::repeat_n(read(item)?, times));
    }
    (!found.is_empty()).then_some(found)
}

/// The bits of a hexadecimal mask.
fn mask(text: &str) -> Option<Vec<u32>> {
    let bits = u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()?;
    Some((0..64).filter(|bit| bits >> bit & 1 == 1).collect())
}

#[cfg(test)]
mod tests {
    use super::GpuBind;

    #[test]
    fn the_grammar() {
        for good in [
            "closest",
            "none",
            "single:2",
            "per_task:1",
            "map_gpu:0,1",
            "map_gpu:0*4,1*4",
            "mask_gpu:0x3,c",
            "verbose,closest",
            "v,single:1",
            "quiet,none",
            "verbose",
        ] {
            assert!(GpuBind::parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "nearest",
            "single",
            "single:0",
            "single:x",
            "map_gpu:",
            "map_gpu:a",
            "mask_gpu:0xg",
            "map_gpu:0*0",
            "map_gpu:0*99999",
            "closest:1",
        ] {
            assert_eq!(GpuBind::parse(bad), None, "{bad}");
        }
        assert!(GpuBind::parse("verbose,none").unwrap().verbose);
    }

    #[test]
    fn a_binding_of_tres_is_one_of_gpus() {
        for (text, spelled) in [
            ("gres/gpu:closest", Some("closest")),
            ("gres/gpu:map:1,0", Some("map_gpu:1,0")),
            ("gres/gpu:verbose,mask:0x1,0x2", Some("verbose,mask_gpu:0x1,0x2")),
            ("GRES/GPU:per_task:2+gres/nic:none", Some("per_task:2")),
            ("gres/gpu:single:2", Some("single:2")),
            ("gres/nic:none", None),
        ] {
            assert_eq!(GpuBind::of_tres(text), Ok(spelled.map(str::to_owned)), "{text}");
        }
        for (text, part) in [
            ("", "\"\" is no binding"),
            ("gres/gpu", "\"gres/gpu\" is no binding"),
            ("gres/gpu:nearest", "is no binding of GPUs"),
            ("gres/gpu:closest+gres/nic:closest", "\"gres/nic:closest\": only gres/gpu"),
            ("cpu:closest", "only gres/gpu"),
            ("gres/gpu:closest+gres/gpu:none", "bound twice"),
        ] {
            let message = GpuBind::of_tres(text).unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn gpus_of_each_task_bind_unless_something_else_does() {
        let each = |asked, each| GpuBind::with_each(asked, each);
        assert_eq!(each(None, 0), None);
        assert_eq!(each(None, 2).as_deref(), Some("per_task:2"));
        assert_eq!(each(Some("verbose"), 2).as_deref(), Some("verbose,per_task:2"));
        assert_eq!(each(Some("none"), 2).as_deref(), Some("none"));
        assert_eq!(each(Some("verbose"), 0).as_deref(), Some("verbose"));
    }

    #[test]
    fn a_task_beyond_the_gpus_begins_again() {
        let bind = GpuBind::parse("per_task:2").unwrap();
        let chosen = |local| bind.chosen(local, 4, &|_| true, &|_| None).unwrap();
        assert_eq!((chosen(1), chosen(2)), (vec![2, 3], vec![0, 1]));
        assert_eq!(bind.chosen(0, 0, &|_| true, &|_| None), None, "a step without GPUs");
        // More than there are: all of them, once.
        assert_eq!(
            GpuBind::parse("per_task:9").unwrap().chosen(0, 2, &|_| true, &|_| None),
            Some(vec![0, 1])
        );
    }
}
