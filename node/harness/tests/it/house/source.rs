//! Rust source with the parts taken out that a rule is not about, and the rule on length.

use super::tree::File;

/// Lines a file may have, tests and generated code aside.
const LINES_MAX: usize = 600;

pub fn too_long(sources: &[File]) -> Vec<String> {
    let counted = sources.iter().filter(|file| !file.is_test() && !file.is_generated());
    counted
        .filter_map(|file| {
            let lines = code_lines(&file.text);
            (lines > LINES_MAX).then(|| format!("{}: {lines} lines, more than {LINES_MAX}", file.path))
        })
        .collect()
}

/// Lines before the tests at a file's end.
fn code_lines(text: &str) -> usize {
    without_tests(text).lines().count()
}

/// The part before `#[cfg(test)] mod tests {`, which stands at the end in this house.
pub fn without_tests(text: &str) -> &str {
    let mut from = 0;
    while let Some(found) = text[from..].find("#[cfg(test)]") {
        let at = from + found;
        let rest = text[at + "#[cfg(test)]".len()..].trim_start();
        let is_module =
            rest.starts_with("mod ") && rest.lines().next().is_some_and(|line| line.trim_end().ends_with('{'));
        if is_module && (at == 0 || text.as_bytes()[at - 1] == b'\n') {
            return &text[..at];
        }
        from = at + 1;
    }
    text
}

/// The code with comments and the insides of texts blanked out; lines stay lines.
pub fn code(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match (chars[at], chars.get(at + 1)) {
            ('/', Some('/')) => chars[at..]
                .iter()
                .position(|c| *c == '\n')
                .map_or(chars.len(), |n| at + n),
            ('/', Some('*')) => block_comment(&chars, at),
            ('"', _) => quoted(&chars, at),
            ('r', Some('"' | '#')) if !in_word(&chars, at) => raw(&chars, at),
            ('\'', _) => character(&chars, at),
            (c, _) => {
                out.push(c);
                at += 1;
                continue;
            }
        };
        out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
        at = end;
    }
    out
}

fn in_word(chars: &[char], at: usize) -> bool {
    at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_')
}

fn block_comment(chars: &[char], start: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = start;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                at += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    at
}

fn quoted(chars: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// `r"…"`, `r#"…"#`; `r#name` is a name and stays.
fn raw(chars: &[char], start: usize) -> usize {
    let hashes = chars[start + 1..].iter().take_while(|c| **c == '#').count();
    if chars.get(start + 1 + hashes) != Some(&'"') {
        return start + 1;
    }
    let mut at = start + 2 + hashes;
    while at < chars.len() {
        if chars[at] == '"' && chars[at + 1..].iter().take_while(|c| **c == '#').count() >= hashes {
            return at + 1 + hashes;
        }
        at += 1;
    }
    at
}

/// `'x'`, `'\n'`; a lifetime is one character long here and harmless.
fn character(chars: &[char], start: usize) -> usize {
    if chars.get(start + 1) == Some(&'\\') {
        let end = chars[start + 3..].iter().position(|c| *c == '\'');
        return end.map_or(chars.len(), |n| start + 4 + n);
    }
    if chars.get(start + 2) == Some(&'\'') {
        start + 3
    } else {
        start + 1
    }
}

/// The lines (from 1) on which `path` stands as a name or path of its own.
pub fn mentions(code: &str, path: &str) -> Vec<usize> {
    let is_name = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let mut lines = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut from = 0;
        while let Some(found) = line[from..].find(path) {
            let (start, end) = (from + found, from + found + path.len());
            if !is_name(line[..start].chars().next_back()) && !is_name(line[end..].chars().next()) {
                lines.push(number + 1);
                break;
            }
            from = end;
        }
    }
    lines
}

#[test]
fn comments_and_texts_are_not_code() {
    let text = "let a = \"HashMap \\\" x\"; // HashMap\n/* HashMap /* */ HashMap */ let b = r#\"HashMap\"#;\nlet c = '\"'; HashMap";
    assert_eq!(mentions(&code(text), "HashMap"), vec![3]);
    assert_eq!(mentions(&code("fn f<'a>(x: &'a str) { HashMap }"), "HashMap"), vec![1]);
    assert_eq!(mentions(&code("let x = '\\''; let y = \"f64\"; f64"), "f64"), vec![1]);
    assert!(mentions(&code("MyHashMap HashMaps r#HashMap_"), "HashMap").is_empty());
}

#[test]
fn a_long_file_is_seen_and_its_tests_are_not_counted() {
    let long = "fn f() {}\n".repeat(LINES_MAX + 1);
    assert_eq!(too_long(&[File::new("raft/src/a.rs", &long)]).len(), 1);
    assert!(
        too_long(&[
            File::new("raft/tests/it/a.rs", &long),
            File::new("x/src/generated/a.rs", &long)
        ])
        .is_empty()
    );
    let tested = format!("{}#[cfg(test)]\nmod tests {{\n{long}}}\n", "fn f() {}\n".repeat(10));
    assert!(too_long(&[File::new("raft/src/a.rs", &tested)]).is_empty());
    let declared = format!("#[cfg(test)]\nmod tests;\n{long}");
    assert_eq!(too_long(&[File::new("raft/src/a.rs", &declared)]).len(), 1);
}
