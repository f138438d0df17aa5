//! Column formats of the query commands: `-o "%.18i %j"`, `-O name:8,state`, and how a cell is printed.
//!
//! Owns the grammar, widths and justification of Slurm's `squeue` and `sinfo`, shared by both; what a column
//! holds stands in the command's own list of [`Field`]s. Never asks the scheduler anything.

pub(crate) mod print;
pub(crate) mod units;

/// One column that a command can print, of rows of type `R`.
pub(crate) struct Field<R> {
    /// Letter of `-o`; `'\0'` where it has only a name.
    pub letter: char,
    /// Name of `-O`; empty where it has only a letter.
    pub name: &'static str,
    /// What stands in the header line.
    pub header: &'static str,
    /// The text of a row in this column; the width is given to those that cut themselves.
    pub value: fn(&R, usize) -> String,
}

/// A line of a command's list.
pub(crate) const fn field<R>(
    letter: char,
    name: &'static str,
    header: &'static str,
    value: fn(&R, usize) -> String,
) -> Field<R> {
    Field { letter, name, header, value }
}

/// A column as asked for.
pub(crate) struct Column<R: 'static> {
    field: Option<&'static Field<R>>,
    width: usize,
    right: bool,
    /// Printed behind the cell, or all that is printed where there is no field.
    suffix: String,
}

impl<R> Column<R> {
    /// What the column holds; `None` for literal text.
    pub(crate) fn field(&self) -> Option<&'static Field<R>> {
        self.field
    }
}

/// A line of cells, without its newline.
pub(crate) fn line<R>(columns: &[Column<R>], row: &R) -> String {
    let mut out = String::new();
    for column in columns {
        if let Some(field) = column.field {
            out.push_str(&cell(&(field.value)(row, column.width), column.width, column.right));
        }
        out.push_str(&column.suffix);
    }
    out
}

/// The header line, without its newline.
pub(crate) fn header<R>(columns: &[Column<R>]) -> String {
    let mut out = String::new();
    for column in columns {
        if let Some(field) = column.field {
            out.push_str(&cell(field.header, column.width, column.right));
        }
        out.push_str(&column.suffix);
    }
    out
}

/// A text filled up with blanks to `width` (0: as it is) and cut where it is longer; bytes are counted.
pub(crate) fn cell(text: &str, width: usize, right: bool) -> String {
    if width == 0 {
        return text.to_owned();
    }
    let mut end = width.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let (text, fill) = (&text[..end], " ".repeat(width - end));
    if right { fill + text } else { text.to_owned() + &fill }
}

/// `--helpformat`: the letters of `order` that a command can print, eight a line.
pub(crate) fn help_letters<R>(order: &str, fields: &[Field<R>]) -> String {
    let known = order.chars().filter(|&letter| fields.iter().any(|field| field.letter == letter));
    in_lines(&known.map(|letter| format!("%{letter}    ")).collect::<Vec<_>>(), 8)
}

/// `--helpFormat`: the names of `order` that a command can print, four a line. The rest of what it can print is
/// other spellings of these.
pub(crate) fn help_names<R>(order: &str, fields: &[Field<R>]) -> String {
    let known = order
        .split_whitespace()
        .filter(|&name| fields.iter().any(|field| field.name.eq_ignore_ascii_case(name)));
    in_lines(&known.map(|name| format!("{name:<20}")).collect::<Vec<_>>(), 4)
}

fn in_lines(cells: &[String], a_line: usize) -> String {
    cells.chunks(a_line).map(|cells| cells.concat() + "\n").collect()
}

/// A format that was read: the columns, and what cannot be printed (the letter or name as typed).
pub(crate) struct Format<R: 'static> {
    pub columns: Vec<Column<R>>,
    pub invalid: Vec<String>,
}

/// Reads `-o`: literal text, then `%[.][width]letter` with literal text behind each.
///
/// As Slurm does, empty pieces between two `%` are skipped, and a piece that ends before its letter takes the
/// first field without a letter and prints the next piece's text behind it.
pub(crate) fn parse_letters<R>(format: &str, fields: &'static [Field<R>]) -> Format<R> {
    let mut read = Format { columns: Vec::new(), invalid: Vec::new() };
    let (prefix, rest) = match format.find('%') {
        Some(at) => format.split_at(at),
        None => (format, ""),
    };
    if !prefix.is_empty() {
        read.columns.push(Column { field: None, width: 0, right: false, suffix: prefix.to_owned() });
    }
    let pieces: Vec<&str> = rest.split('%').filter(|piece| !piece.is_empty()).collect();
    for (at, piece) in pieces.iter().enumerate() {
        let (right, body) = match piece.strip_prefix('.') {
            Some(body) => (true, body),
            None => (false, *piece),
        };
        let digits = body.find(|c: char| !c.is_ascii_digit()).unwrap_or(body.len());
        let width = body[..digits].parse().unwrap_or(0).min(WIDTH_MAX);
        let mut letters = body[digits..].chars();
        let (letter, suffix) = match letters.next() {
            Some(letter) => (letter, letters.as_str()),
            None => ('\0', pieces.get(at + 1).copied().unwrap_or_default()),
        };
        match fields.iter().find(|field| field.letter == letter) {
            Some(field) => {
                read.columns.push(Column { field: Some(field), width, right, suffix: suffix.to_owned() });
            }
            None => {
                read.columns.push(Column {
                    field: None,
                    width: 0,
                    right: false,
                    suffix: format!("%{piece}"),
                });
                read.invalid.push(letter.to_string());
            }
        }
    }
    read
}

/// No cell is wider, so that a mistyped width does not fill the memory.
const WIDTH_MAX: usize = 65_536;
/// Width of an `-O` column that names none.
const NAMED_WIDTH: usize = 20;

/// Reads `-O`: `name[:[.][width][suffix]]`, separated by commas.
pub(crate) fn parse_names<R>(format: &str, fields: &'static [Field<R>]) -> Format<R> {
    let mut read = Format { columns: Vec::new(), invalid: Vec::new() };
    for piece in format.split(',').filter(|piece| !piece.is_empty()) {
        let (name, width, right, suffix) = match piece.split_once(':') {
            None => (piece, NAMED_WIDTH, false, ""),
            Some((name, size)) => {
                let (right, size) = match size.strip_prefix('.') {
                    Some(size) => (true, size),
                    None => (false, size),
                };
                let digits = size.find(|c: char| !c.is_ascii_digit()).unwrap_or(size.len());
                (name, size[..digits].parse().unwrap_or(0).min(WIDTH_MAX), right, &size[digits..])
            }
        };
        let found =
            fields.iter().find(|field| !field.name.is_empty() && field.name.eq_ignore_ascii_case(name));
        match found {
            Some(field) => {
                read.columns.push(Column { field: Some(field), width, right, suffix: suffix.to_owned() });
            }
            None => read.invalid.push(name.to_owned()),
        }
    }
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    static FIELDS: [Field<&str>; 3] = [
        Field { letter: '\0', name: "accrue", header: "ACCRUE", value: |_, _| "N/A".to_owned() },
        Field { letter: 'j', name: "name", header: "NAME", value: |row, _| (*row).to_owned() },
        Field { letter: 'z', name: "", header: "S:C:T", value: |_, _| "*:*:*".to_owned() },
    ];

    fn check(read: &Format<&str>, row: &'static str, expected: &str, invalid: &[&str]) {
        assert_eq!(line(&read.columns, &row), expected);
        assert_eq!(read.invalid, invalid);
    }

    #[test]
    fn letters_as_slurm_reads_them() {
        check(&parse_letters("x%jy %%j %5%z", &FIELDS), "nm", "xnmy nm N/A  z*:*:*", &[]);
        check(&parse_letters("%j|%8j|%.8j", &FIELDS), "long-name", "long-name|long-nam|long-nam", &[]);
        check(&parse_letters("[%5j][%.5j][%-8j]", &FIELDS), "nm", "[nm   ][   nm][%-8j]", &["-"]);
        assert_eq!(header(&parse_letters("%.6j %z", &FIELDS).columns), "  NAME S:C:T");
    }

    #[test]
    fn names_as_slurm_reads_them() {
        check(&parse_names("name:8 ,name:.10", &FIELDS), "nm", "nm               nm", &[]);
        check(&parse_names("name:|,Accrue:|", &FIELDS), "nm", "nm|N/A|", &[]);
        check(&parse_names("nosuch,name", &FIELDS), "nm", "nm                  ", &["nosuch"]);
    }
}
