//! Names of output files: `slurm-%j.out` → a path. Source: `man sbatch`, FILENAME PATTERN, and the goldens.
//!
//! Pure. A backslash anywhere turns all replacement off and is dropped; an unknown letter stays as it is; a
//! number between `%` and the letter pads numbers with zeros (at most ten) and is ignored for texts.

use model::id::StepId;

/// Slurm's "no array task": what `%a` prints outside an array.
const NO_TASK: u32 = 4_294_967_294;
const WIDTH_MAX: usize = 10;

/// What the letters stand for.
#[derive(Clone, Debug)]
pub struct Names<'a> {
    /// `%j`.
    pub job_id: u32,
    /// `%A`: the array's id; the job's own outside an array.
    pub array_job_id: Option<u32>,
    /// `%a`, `%b`.
    pub array_task_id: Option<u32>,
    /// `%s`, `%J`.
    pub step: StepId,
    /// `%N`.
    pub node: &'a str,
    /// `%n`: place of the node in the step (or job).
    pub node_index: u32,
    /// `%t`: rank.
    pub rank: u32,
    /// `%u`.
    pub user: &'a str,
    /// `%x`.
    pub job_name: &'a str,
}

impl Names<'_> {
    /// The pattern where the submitter gave none.
    #[must_use]
    pub fn default_output(&self) -> &'static str {
        match self.array_task_id {
            Some(_) => "slurm-%A_%a.out",
            None => "slurm-%j.out",
        }
    }

    /// Replaces everything.
    #[must_use]
    pub fn expand(&self, pattern: &str) -> String {
        if pattern.contains('\\') {
            return pattern.replace('\\', "");
        }
        let mut out = String::with_capacity(pattern.len() + 16);
        let mut rest = pattern;
        while let Some(at) = rest.find('%') {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            let digits = rest[1..].bytes().take_while(u8::is_ascii_digit).count();
            let Some(letter) = rest[1 + digits..].chars().next() else { break };
            let width = rest[1..=digits].parse::<usize>().unwrap_or(0).min(WIDTH_MAX);
            match self.value(letter, width) {
                Some(value) => out.push_str(&value),
                None => out.push_str(&rest[..1 + digits + letter.len_utf8()]),
            }
            rest = &rest[1 + digits + letter.len_utf8()..];
        }
        out.push_str(rest);
        out
    }

    fn value(&self, letter: char, width: usize) -> Option<String> {
        let number = |value: u32| format!("{value:0width$}");
        let task = self.array_task_id.unwrap_or(NO_TASK);
        Some(match letter {
            '%' => "%".to_owned(),
            'A' => number(self.array_job_id.unwrap_or(self.job_id)),
            'a' => number(task),
            'b' => number(task % 10),
            'j' => number(self.job_id),
            'J' => match self.step {
                StepId::Batch => number(self.job_id),
                step => format!("{}.{step}", number(self.job_id)),
            },
            's' => match self.step {
                StepId::Number(step) => number(step),
                step => step.to_string(),
            },
            'N' => self.node.split('.').next().unwrap_or(self.node).to_owned(),
            'n' => number(self.node_index),
            't' => number(self.rank),
            'u' => self.user.to_owned(),
            'x' => self.job_name.to_owned(),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Names;
    use model::id::StepId;

    #[test]
    fn as_slurm_names_files() {
        let names = Names {
            job_id: 100_001,
            array_job_id: None,
            array_task_id: None,
            step: StepId::Batch,
            node: "c1.site",
            node_index: 0,
            rank: 0,
            user: "alice",
            job_name: "nm",
        };
        let array = Names { array_job_id: Some(9), array_task_id: Some(13), ..names.clone() };
        let step = Names { step: StepId::Number(2), node_index: 1, rank: 5, ..names.clone() };
        for (names, pattern, expected) in [
            (&names, "o-%j.txt", "o-100001.txt"),
            (&names, "o-%x-%u-%%.txt", "o-nm-alice-%.txt"),
            (&names, "o-%A-%a.txt", "o-100001-4294967294.txt"),
            (&names, "o-%9j-%3t.txt", "o-000100001-000.txt"),
            (&names, "o-\\%j.txt", "o-%j.txt"),
            (&names, "o-%q-%z.txt", "o-%q-%z.txt"),
            (&names, "%s %J %N %5N %", "batch 100001 c1 c1 %"),
            (&array, "o-%4a.txt", "o-0013.txt"),
            (&array, "o-%b-%a.txt", "o-3-13.txt"),
            (&array, "%A", "9"),
            (&step, "o-%j-%s-%J-%t-%n", "o-100001-2-100001.2-5-1"),
            (&step, "%99t", "0000000005"),
        ] {
            assert_eq!(names.expand(pattern), expected, "{pattern}");
        }
        assert_eq!(names.expand(names.default_output()), "slurm-100001.out");
        assert_eq!(array.expand(array.default_output()), "slurm-9_13.out");
    }
}
