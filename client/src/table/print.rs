//! Columns as `sacct` and `sacctmgr` print them: two header lines, cells cut with `+`, or values between bars.

/// One column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub name: String,
    /// Negative: left-justified.
    pub width: i32,
}

/// How lines are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Aligned columns.
    Columns,
    /// Values with this text between them, and behind the last where `ends` says so.
    Parsable { delimiter: String, ends: bool },
}

impl Form {
    /// The header's lines.
    pub(crate) fn header(&self, columns: &[Column]) -> String {
        match self {
            Self::Columns => {
                let mut out = String::new();
                for column in columns {
                    let width = column.width.unsigned_abs() as usize;
                    let name: String = column.name.chars().take(width).collect();
                    out.push_str(&pad(&name, column.width));
                    out.push(' ');
                }
                out.push('\n');
                for column in columns {
                    out.push_str(&"-".repeat(column.width.unsigned_abs() as usize));
                    out.push(' ');
                }
                out + "\n"
            }
            Self::Parsable { .. } => {
                let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
                self.line(columns, &names)
            }
        }
    }

    /// One line of values.
    pub(crate) fn line(&self, columns: &[Column], values: &[String]) -> String {
        match self {
            Self::Columns => {
                let cells = columns.iter().zip(values).map(|(column, value)| cell(value, column.width) + " ");
                cells.collect::<String>() + "\n"
            }
            Self::Parsable { delimiter, ends } => {
                let end = if *ends { delimiter.as_str() } else { "" };
                values.join(delimiter) + end + "\n"
            }
        }
    }
}

fn pad(text: &str, width: i32) -> String {
    let fill = " ".repeat((width.unsigned_abs() as usize).saturating_sub(text.chars().count()));
    if width < 0 { text.to_owned() + &fill } else { fill + text }
}

/// A value in its column; one that is too long ends in `+`.
fn cell(value: &str, width: i32) -> String {
    let most = width.unsigned_abs() as usize;
    if value.chars().count() <= most {
        return pad(value, width);
    }
    let mut cut: String = value.chars().take(most.saturating_sub(1)).collect();
    cut.push('+');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_cut_with_a_plus() {
        let columns =
            [Column { name: "JobID".into(), width: -12 }, Column { name: "State".into(), width: 10 }];
        let form = Form::Columns;
        assert_eq!(form.header(&columns), "JobID             State \n------------ ---------- \n");
        let values = ["7.batch".to_owned(), "CANCELLED by 2001".to_owned()];
        assert_eq!(form.line(&columns, &values), "7.batch      CANCELLED+ \n");
        let parsable = Form::Parsable { delimiter: "|".into(), ends: true };
        assert_eq!(parsable.line(&columns, &values), "7.batch|CANCELLED by 2001|\n");
    }
}
