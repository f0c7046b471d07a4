//! The text of a `.env` file: one variable a line. Total: other programs' lines are passed over, whatever is in them, and
//! no error shows more of a line than its number and the variable's name.
//!
//! ```text
//! # a comment
//! PROXY_RTMP_SERVER=1935            # white space and # end a value
//! export PROXY_REDIS_PASSWORD='a "literal" #value, with $ and \'
//! PROXY_REDIS_KEY_PREFIX="one with \" \\ \$ and \n"
//! ```

use std::collections::BTreeMap;

/// Our variables begin so; all others are somebody else's.
const OURS: &str = "PROXY_";

/// Our variables; of one that is set twice, the last. What was not UTF-8 is marked as such.
///
/// # Errors
/// One line: which line of the file is not of that form, and whose variable it is.
pub(super) fn parse(text: &str) -> Result<BTreeMap<&str, String>, String> {
    let mut values = BTreeMap::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        let line = line.strip_prefix("export ").map_or(line, str::trim_start);
        if !line.starts_with(OURS) {
            continue;
        }
        let is_of_name = |char: char| char.is_ascii_alphanumeric() || char == '_';
        let (name, rest) = line.split_at(line.find(|char| !is_of_name(char)).unwrap_or(line.len()));
        let value = rest.trim_start().strip_prefix('=').and_then(|rest| value(rest.trim_start()));
        let value = value.filter(|value| !value.contains(char::REPLACEMENT_CHARACTER));
        let value =
            value.ok_or_else(|| format!(".env: line {}, {name}: not of the form NAME=value", index + 1))?;
        values.insert(name, value);
    }
    Ok(values)
}

/// The value at the beginning of the rest of a line, if nothing but a comment comes after it.
fn value(rest: &str) -> Option<String> {
    let (value, after) = match rest.chars().next() {
        Some('\'') => {
            let (value, after) = rest.get(1..)?.split_once('\'')?;
            (value.to_owned(), after)
        }
        Some('"') => quoted(rest.get(1..)?)?,
        _ => {
            let is_comment = |at: &usize| {
                rest.get(..*at).is_none_or(|before| before.is_empty() || before.ends_with([' ', '\t']))
            };
            let end = rest.match_indices('#').map(|(at, _)| at).find(is_comment).unwrap_or(rest.len());
            (rest.get(..end)?.trim_end().to_owned(), "")
        }
    };
    let after = after.trim_start();
    (after.is_empty() || after.starts_with('#')).then_some(value)
}

/// The text up to the closing quotation mark, and what comes after that.
fn quoted(text: &str) -> Option<(String, &str)> {
    let (mut value, mut chars) = (String::new(), text.chars());
    loop {
        match chars.next()? {
            '"' => return Some((value, chars.as_str())),
            '\\' => value.push(match chars.next()? {
                'n' => '\n',
                itself @ ('"' | '\\' | '\'' | '$' | ' ') => itself,
                _ => return None,
            }),
            itself => value.push(itself),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_plain_or_quoted() {
        for (line, expected) in [
            ("PROXY_A=1935", "1935"),
            ("  PROXY_A = 1935  ", "1935"),
            ("export PROXY_A=1935", "1935"),
            ("PROXY_A=", ""),
            ("PROXY_A= # nothing", ""),
            ("PROXY_A=a # comment", "a"),
            ("PROXY_A=a#b c=d", "a#b c=d"),
            (r"PROXY_A=pa$$word\", r"pa$$word\"),
            (r#"PROXY_A='a "b" # $c \n'"#, r#"a "b" # $c \n"#),
            (r#"PROXY_A="a 'b' # \$c \"\\\" \n" # comment"#, "a 'b' # $c \"\\\" \n"),
            ("PROXY_A='é'", "é"),
            ("\u{feff}PROXY_A=1\r", "1"),
            ("PROXY_A=1\nPROXY_A=2", "2"),
        ] {
            assert_eq!(parse(line), Ok(BTreeMap::from([("PROXY_A", expected.to_owned())])), "{line:?}");
        }
    }

    #[test]
    fn a_line_that_is_not_ours_does_not_matter() {
        let text = "FOO='open\nsecret\nA B=\"\nkey: value\n#PROXY_B=1\nPROXY_A=1\n=";
        assert_eq!(parse(text), Ok(BTreeMap::from([("PROXY_A", "1".to_owned())])));
    }

    #[test]
    fn an_error_names_the_line_and_the_variable_and_shows_no_secret() {
        for bad in
            ["'hunter2", "hunter2\u{fffd}", "\"hunter2", "'hunter2' hunter2", "\"hunter2\\x\"", "\"hunter2\\"]
        {
            let error = parse(&format!("\nPROXY_A=1\nPROXY_TOKEN={bad}")).unwrap_err();
            assert_eq!(error, ".env: line 3, PROXY_TOKEN: not of the form NAME=value");
        }
        let error = parse("PROXY_TOKEN hunter2").unwrap_err();
        assert_eq!(error, ".env: line 1, PROXY_TOKEN: not of the form NAME=value");
        assert!(!parse("PROXY_TOKEN-hunter2").unwrap_err().contains("hunter2"));
    }
}
