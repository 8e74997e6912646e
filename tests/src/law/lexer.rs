//! Just enough of Rust's grammar to find the paths that begin with a crate's name.

/// An identifier, or one character of punctuation (`::` is one token). Comments, texts and numbers are left out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Token {
    pub(super) text: String,
    /// Counted from 1.
    pub(super) line: usize,
}

/// A path that leads out of the file: its first segment is no module that the file declares.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Name {
    pub(super) path: Vec<String>,
    pub(super) line: usize,
}

/// Cuts a source file into tokens.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut rest = text;
    let mut line = 1;
    let mut tokens = Vec::new();
    while let Some(first) = rest.chars().next() {
        let (kind, bytes) = lexeme(rest, first);
        let (lexeme, after) = rest.split_at(bytes);
        if kind == Kind::Token {
            tokens.push(Token { text: lexeme.trim_start_matches("r#").into(), line });
        }
        line += lexeme.matches('\n').count();
        rest = after;
    }
    tokens
}

/// The paths of a file that begin with the name of a crate or of something from the prelude, those inside the braces of
/// a `use` spelled out. A path of one segment counts only where it can be nothing but a crate: after `use` and `extern crate`.
pub(super) fn names(tokens: &[Token]) -> Vec<Name> {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let back = |at: usize, by: usize| at.checked_sub(by).map_or("", text);
    // `a::b` and `<T>::b` go on, `use ::b` and `-> ::b` begin anew.
    let goes_on = |at| is_segment(back(at, 2)) || back(at, 2) == ">" && back(at, 3) != "-";
    let modules: Vec<&str> = (1..tokens.len()).filter(|at| text(at - 1) == "mod").map(text).collect();
    let mut names = Vec::new();
    for at in 0..tokens.len() {
        let before = back(at, 1);
        let absolute = before == "::" && !goes_on(at);
        let begins = before != "::" && before != "." || absolute;
        let outermost = before == "use" || before == "crate" && back(at, 2) == "extern";
        if !begins || !is_identifier(text(at)) || !(text(at + 1) == "::" || outermost) {
            continue;
        }
        if modules.contains(&text(at)) && !absolute {
            continue;
        }
        spell(tokens, at, &mut Vec::new(), &mut names);
    }
    names
}

/// Adds the path at `at`, and each of its branches when it ends in braces. Answers where it ends.
fn spell(tokens: &[Token], mut at: usize, path: &mut Vec<String>, names: &mut Vec<Name>) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let line = tokens[at].line;
    let depth = path.len();
    while is_identifier(text(at)) {
        path.push(text(at).into());
        at += 1;
        if text(at) != "::" {
            break;
        }
        at += 1;
    }
    if text(at) == "{" && text(at - 1) == "::" {
        at += 1;
        while at < tokens.len() && text(at) != "}" {
            at = if is_identifier(text(at)) { spell(tokens, at, path, names) } else { at + 1 };
        }
        at += 1;
    } else {
        names.push(Name { path: path.clone(), line });
    }
    path.truncate(depth);
    at
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn is_identifier(text: &str) -> bool {
    text.chars().next().is_some_and(|c| is_word(c) && !c.is_ascii_digit())
}

/// Whether a path may continue after this word.
fn is_segment(text: &str) -> bool {
    const KEYWORDS: &[&str] =
        &["as", "dyn", "else", "for", "if", "impl", "in", "let", "match", "mut", "return", "use", "where", "while"];
    is_identifier(text) && !KEYWORDS.contains(&text)
}

#[derive(PartialEq)]
enum Kind {
    Token,
    Skipped,
}

/// The kind and length of what `rest` begins with.
fn lexeme(rest: &str, first: char) -> (Kind, usize) {
    let until = |end: &str, from: usize| rest[from..].find(end).map_or(rest.len(), |at| from + at + end.len());
    let word = |from: usize| rest[from..].find(|c| !is_word(c)).map_or(rest.len(), |at| from + at);
    if rest.starts_with("//") {
        return (Kind::Skipped, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return (Kind::Skipped, block_comment(rest));
    }
    if let Some(opening) = raw_text(rest) {
        return (Kind::Skipped, until(&format!("\"{}", "#".repeat(opening.hashes)), opening.bytes));
    }
    for beginning in ["\"", "b\"", "c\""] {
        if rest.starts_with(beginning) {
            return (Kind::Skipped, quoted(rest, beginning.len(), '"'));
        }
    }
    if rest.starts_with("b'") {
        return (Kind::Skipped, quoted(rest, 2, '\''));
    }
    if first == '\'' {
        // 'x' and '\n' are characters, 'name is a lifetime.
        let mut after = rest[1..].chars();
        let character = after.next() == Some('\\') || after.next() == Some('\'');
        return (Kind::Skipped, if character { quoted(rest, 1, '\'') } else { word(1) });
    }
    if rest.starts_with("r#") {
        return (Kind::Token, word(2));
    }
    if is_word(first) {
        return (if first.is_ascii_digit() { Kind::Skipped } else { Kind::Token }, word(0));
    }
    if first.is_whitespace() {
        return (Kind::Skipped, first.len_utf8());
    }
    (Kind::Token, if rest.starts_with("::") { 2 } else { first.len_utf8() })
}

struct RawText {
    hashes: usize,
    /// Of `r##"`.
    bytes: usize,
}

fn raw_text(rest: &str) -> Option<RawText> {
    let after = ["br", "cr", "r"].into_iter().find_map(|beginning| rest.strip_prefix(beginning))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    after[hashes..].starts_with('"').then(|| RawText { hashes, bytes: rest.len() - after.len() + hashes + 1 })
}

/// The length of a text or a character that opens with `from` bytes.
fn quoted(rest: &str, from: usize, end: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest[from..].char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == end => return from + at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

/// The length of a block comment, others inside it included.
fn block_comment(rest: &str) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < rest.len() {
        match &rest.as_bytes()[at..rest.len().min(at + 2)] {
            b"/*" => (at, depth) = (at + 2, depth + 1),
            b"*/" => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}
