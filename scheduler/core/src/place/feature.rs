//! Constraint expressions: `intel&ib`, `amd|ib`, `[intel|amd]`, `[intel*1&amd*2]`, `(a|b)&c`.
//!
//! Owns what the text means. `&` and `|` have the same weight and are read from left to right, as Slurm
//! does. A bracket with `|` asks for one alternative on all nodes; a term with a count asks for so many
//! nodes of it.

/// A condition on one node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Expression {
    /// The node has this feature.
    Has(Box<str>),
    /// Both.
    And(Box<Expression>, Box<Expression>),
    /// At least one.
    Or(Box<Expression>, Box<Expression>),
}

/// So many nodes that satisfy a condition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Share {
    /// How many.
    pub(crate) nodes: u32,
    /// What each of them has.
    pub(crate) expression: Expression,
}

/// What a whole job asks of its nodes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Constraint {
    /// Every node satisfies the one expression.
    Each(Expression),
    /// Every node satisfies the same one of these; the first that can be placed is taken.
    Same(Vec<Expression>),
    /// Some nodes satisfy this, some that; further nodes are free.
    Counts(Vec<Share>),
}

impl Expression {
    /// Whether a node with these features satisfies it. Cost: O(terms × features).
    #[must_use]
    pub(crate) fn matches(&self, features: &[Box<str>]) -> bool {
        match self {
            Self::Has(name) => features.contains(name),
            Self::And(one, other) => one.matches(features) && other.matches(features),
            Self::Or(one, other) => one.matches(features) || other.matches(features),
        }
    }

    /// Hands out every name in it.
    fn names<'a>(&'a self, each: &mut impl FnMut(&'a str)) {
        match self {
            Self::Has(name) => each(name),
            Self::And(one, other) | Self::Or(one, other) => {
                one.names(each);
                other.names(each);
            }
        }
    }
}

impl Constraint {
    /// Reads a text. `None`: it is none (unbalanced, empty terms, counts that are no number).
    ///
    /// Cost: O(text).
    #[must_use]
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text: String = text.chars().filter(|letter| !letter.is_whitespace()).collect();
        if let Some(alternatives) = same_alternatives(&text) {
            let read = |part: &String| Reader::whole(part);
            return alternatives.iter().map(read).collect::<Option<Vec<_>>>().map(Self::Same);
        }
        let bare: String = text.chars().filter(|letter| !"[]".contains(*letter)).collect();
        if !balanced(&text, '[', ']') {
            return None;
        }
        if bare.contains('*') {
            return counts(&bare).map(Self::Counts);
        }
        Reader::whole(&bare).map(Self::Each)
    }

    /// Every feature named in it.
    #[must_use]
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        let mut each = |name| names.push(name);
        match self {
            Self::Each(one) => one.names(&mut each),
            Self::Same(many) => many.iter().for_each(|one| one.names(&mut each)),
            Self::Counts(shares) => shares.iter().for_each(|share| share.expression.names(&mut each)),
        }
        names
    }
}

/// The alternatives of `[a|b&c]` or `x&[a|b]`, each as a text for all nodes; `None` for other texts.
fn same_alternatives(text: &str) -> Option<Vec<String>> {
    let open = text.find('[')?;
    let close = text.rfind(']')?;
    let (before, inside, after) = (&text[..open], text.get(open + 1..close)?, &text[close + 1..]);
    if inside.contains('*') || inside.contains(['[', ']']) || !inside.contains('|') {
        return None;
    }
    Some(inside.split('|').map(|part| format!("{before}({part}){after}")).collect())
}

fn balanced(text: &str, open: char, close: char) -> bool {
    let mut depth = 0_i32;
    for letter in text.chars() {
        depth += i32::from(letter == open) - i32::from(letter == close);
        if depth < 0 {
            return false;
        }
    }
    depth == 0
}

/// `intel*1&amd*2`: terms with counts at the outermost level.
fn counts(text: &str) -> Option<Vec<Share>> {
    let mut shares = Vec::new();
    let mut depth = 0_u32;
    let pieces = text.split(|letter: char| {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && (letter == '&' || letter == '|')
    });
    for piece in pieces {
        let (term, nodes) = match piece.rsplit_once('*') {
            Some((term, count)) if !count.contains(')') => {
                (term, count.parse().ok().filter(|count| *count > 0)?)
            }
            _ => (piece, 1),
        };
        shares.push(Share { nodes, expression: Reader::whole(term)? });
    }
    Some(shares)
}

/// Reads an expression without brackets and counts.
struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn whole(text: &'a str) -> Option<Expression> {
        let mut reader = Reader { rest: text };
        let expression = reader.expression(0)?;
        reader.rest.is_empty().then_some(expression)
    }

    fn expression(&mut self, depth: u32) -> Option<Expression> {
        // Bounded, so that a text of brackets cannot exhaust the stack.
        if depth > 32 {
            return None;
        }
        let mut left = self.term(depth)?;
        loop {
            let operator = self.rest.chars().next();
            match operator {
                Some('&' | ',') => {
                    self.rest = &self.rest[1..];
                    left = Expression::And(Box::new(left), Box::new(self.term(depth)?));
                }
                Some('|') => {
                    self.rest = &self.rest[1..];
                    left = Expression::Or(Box::new(left), Box::new(self.term(depth)?));
                }
                _ => return Some(left),
            }
        }
    }

    fn term(&mut self, depth: u32) -> Option<Expression> {
        if let Some(rest) = self.rest.strip_prefix('(') {
            self.rest = rest;
            let inner = self.expression(depth + 1)?;
            self.rest = self.rest.strip_prefix(')')?;
            return Some(inner);
        }
        let end = self.rest.find(|letter| "&|,()[]*".contains(letter)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!name.is_empty()).then(|| Expression::Has(name.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(constraint: &Constraint) -> String {
        let sets: [&[&str]; 5] = [&["intel", "ib"], &["intel"], &["amd"], &["amd", "ib"], &[]];
        let verdict = |expression: &Expression| {
            let has = |set: &&[&str]| {
                let features: Vec<Box<str>> = set.iter().map(|&name| name.into()).collect();
                if expression.matches(&features) { '1' } else { '0' }
            };
            sets.iter().map(has).collect::<String>()
        };
        match constraint {
            Constraint::Each(one) => verdict(one),
            Constraint::Same(many) => many.iter().map(verdict).collect::<Vec<_>>().join(" or "),
            Constraint::Counts(shares) => {
                let one = |share: &Share| format!("{}x{}", share.nodes, verdict(&share.expression));
                shares.iter().map(one).collect::<Vec<_>>().join(" and ")
            }
        }
    }

    #[test]
    fn texts() {
        // Node by node: intel,ib; intel; amd; amd,ib; none.
        let table = "
            intel                | 11000
            intel&ib             | 10000
            amd|ib               | 10110
            intel|amd&ib         | 10010
            intel|(amd&ib)       | 11010
            (intel|amd)&ib       | 10010
            [intel|amd]          | 11000 or 00110
            ib&[intel|amd]       | 10000 or 00010
            [intel*1&amd*2]      | 1x11000 and 2x00110
            intel*2&ib           | 2x11000 and 1x10010
            (amd&ib)*1&intel*1   | 1x00010 and 1x11000
        ";
        for line in table.lines().filter(|line| line.contains("  | ")) {
            let (text, expected) = line.split_once("  | ").unwrap();
            let constraint = Constraint::parse(text.trim()).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(nodes(&constraint), expected.trim(), "{text}");
        }
        for text in ["", "&", "a&", "(a", "a)", "[a", "a*0", "a*x", "a**2", &"(".repeat(100)] {
            assert_eq!(Constraint::parse(text), None, "{text}");
        }
    }
}
