//! Mistakes: their positions, their messages, and their limit.

use super::{parse, tree};
use crate::domain::dtab::{Bounds, Dtab, Origin};

/// The positions and messages of all mistakes in `text`.
fn mistakes(text: &str) -> Vec<String> {
    match parse(text) {
        Ok(dtab) => panic!("{text} reads as {dtab}"),
        Err(error) => error.problems.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn a_mistake_says_where_and_what_was_expected() {
    for (text, said) in [
        ("a", "1:1: expected a prefix that starts with `/`, found `a`"),
        ("/a", "1:3: expected `=>`, found the end"),
        ("/a -> /b", "1:4: expected `=>`, found `-`"),
        ("/a = > /b", "1:4: expected `=>`, found `=`"),
        ("/a =>", "1:6: expected a path, a weight, `(`, `!`, `~` or `$`, found the end"),
        ("/a => ;", "1:7: expected a path, a weight, `(`, `!`, `~` or `$`, found `;`"),
        ("/a => b", "1:7: expected a path, a weight, `(`, `!`, `~` or `$`, found `b`"),
        ("/a => NaN * /b & /c", "1:7: expected a path, a weight, `(`, `!`, `~` or `$`, found `N`"),
        ("/a => /b |", "1:11: expected a path, a weight, `(`, `!`, `~` or `$`, found the end"),
        ("/a => (/b", "1:10: expected `|`, `&` or `)`, found the end"),
        ("/a => /b)", "1:9: expected `|`, `&` or `;`, found `)`"),
        ("/a => /b /c", "1:10: expected `|`, `&` or `;`, found `/` (an entry ends with `;`)"),
        (
            "/a => /b/*",
            "1:10: expected a label (letters, digits, _ : . # $ % - or \\xHH), found `*` (`*` stands for a label only left of `=>`)",
        ),
        (
            "/a => /b/ ;",
            "1:10: expected a label (letters, digits, _ : . # $ % - or \\xHH), found ` ` (a path does not end with `/`)",
        ),
        (
            "/a//b => /c",
            "1:4: expected a label (letters, digits, _ : . # $ % - or \\xHH), found `/` (a path has no empty labels)",
        ),
        ("/*bar => /c", "1:3: expected `=>`, found `b` (`*` stands for a whole label)"),
        ("/bar* => /c", "1:5: expected `=>`, found `*` (`*` stands for a whole label)"),
        ("/a => /\\q", "1:9: expected `x` and two hexadecimal digits, found `q`"),
        ("/a => /b\n/c => /d", "2:1: expected `|`, `&` or `;`, found `/` (an entry ends with `;`)"),
        (";/a => /b", "1:1: expected an entry such as `/svc => /host`, found `;` (one `;` ends an entry)"),
        ("/é => /b", "1:2: expected `=>`, found `é`"),
        ("/a => 'x'", "1:7: expected a path, a weight, `(`, `!`, `~` or `$`, found `'`"),
    ] {
        assert_eq!(mistakes(text), [said], "{text}");
    }
}

#[test]
fn weights_that_are_none_are_said_so() {
    for (text, said) in [
        (". * /a", "1:2: expected a digit, found ` `"),
        ("0.1.2 * /a", "1:4: expected `*` after the weight, found `.` (a number has one decimal point)"),
        ("-1 * /a", "1:1: expected a path or a weight, found `-` (weights have no sign)"),
        ("1e400 * /a", "1:2: expected `*` after the weight, found `e` (weights have no exponent)"),
        ("1 /a", "1:3: expected `*` after the weight, found `/`"),
        (
            "0 * /a & 0.0 * /b",
            "1:1: every weight of this union is zero (give one member a weight above zero)",
        ),
    ] {
        let error = tree(text).expect_err(text);
        assert_eq!(error.problems[0].to_string(), said, "{text}");
    }
    for digits in [102, 400, 100_000] {
        let huge = format!("{} * /a & /b", "9".repeat(digits));
        let error = tree(&huge).expect_err("too large a weight");
        assert_eq!(error.problems[0].to_string(), "1:1: the weight is too large or too long a number");
    }
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let text = "/a -> /b ;\n/ok => /fine ; # it's; fine\n/c => /d/ ;\n  /e => (/f ;\n/g => 1 & /h";
    let places: Vec<String> = parse(text).unwrap_err().problems.iter().map(|it| it.at.to_string()).collect();
    assert_eq!(places, ["1:4", "3:10", "4:13", "5:9"]);
}

#[test]
fn the_line_is_shown_with_a_caret() {
    let error = parse("/a => /b ;\n/svc\t-> /host ;").unwrap_err();
    assert_eq!(error.to_string(), "2:6: expected `=>`, found `-`\n    /svc -> /host ;\n         ^");
}

#[test]
fn a_long_line_is_cut_around_the_caret() {
    let text = format!("{}/é ! {}", "/a => /b;".repeat(500), "/c => /d;".repeat(500));
    let error = parse(&text).unwrap_err();
    let lines: Vec<&str> = error.problems[0].caret.lines().collect();
    let [line, pad] = lines[..] else { panic!("{lines:?}") };
    assert!(line.chars().count() <= 102, "{line}");
    assert_eq!(line.chars().nth(pad.chars().count() - 1), Some('é'), "{line}\n{pad}");
}

#[test]
fn bounds_are_kept_and_said() {
    let bounds = Bounds { bytes: 40, entries: 2, nesting: 2, members: 3, problems: 2 };
    for (text, said) in [
        ("/a => /b; /a => /b; /a => /b", "1:21: more than 2 entries"),
        ("/a => (((/b)))", "1:9: more than 2 parentheses inside one another"),
        ("/a => /b|/b|/b|/b", "1:15: more than 3 members with `|` between them"),
        ("/a => /b&/b&/b&/b", "1:15: more than 3 members with `&` between them"),
        ("/a => /bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "1:1: the dtab has 42 bytes, 40 are allowed"),
    ] {
        let error = Dtab::parse(text, Origin::Request, &bounds).expect_err(text);
        assert_eq!(error.problems[0].to_string(), said, "{text}");
    }
    let many = Dtab::parse("a;b;c;d", Origin::Request, &bounds).unwrap_err();
    assert_eq!((many.problems.len(), many.more), (2, true));
}

#[test]
fn a_megabyte_of_anything_is_read_or_refused() {
    for unit in ["(", "/a => (", "/a=>/b;", ";", "/", "\\", "/a => /b | ", "#", "\n", "9", "é", "/a => 1*/b&"]
    {
        let text = unit.repeat((1 << 20) / unit.len());
        let _ = parse(&text);
    }
}
