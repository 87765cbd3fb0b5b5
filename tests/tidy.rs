//! The house in order: rules of the project that a compiler does not check, read from the text of its files.
//!
//! Each message says what to do. A rule that turns out to be wrong is changed here and in the document that states it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use roost::config::Config;

/// Lines of code, tests not counted, that one file of the product may have, and all lines of a file of tests.
const CODE_LINES_MAX: usize = 400;
const TEST_LINES_MAX: usize = 600;

/// Files that may be longer, up to so many lines, and why. This list only becomes shorter.
const LONG_FILES: [(&str, usize, &str); 2] = [
    ("src/raft/consensus.rs", 480, "one type, the whole of what openraft is asked for"),
    ("src/cli/args.rs", 470, "the command line as declarations, without behaviour"),
];

/// Libraries that are named in one place each, so that they can be exchanged there.
const AT_HOME: [(&str, &[&str]); 15] = [
    ("openraft", &["src/raft/"]),
    ("sled", &["src/storage/"]),
    ("bincode", &["src/codec.rs"]),
    ("axum", &["src/http/"]),
    ("utoipa", &["src/http/"]),
    ("utoipa_axum", &["src/http/"]),
    ("hyper", &["src/http/", "src/cli/bench/"]),
    ("prometheus_client", &["src/http/"]),
    ("reqwest", &["src/client/", "src/probe/"]),
    ("clap", &["src/cli/"]),
    ("rustyline", &["src/cli/"]),
    ("toml", &["src/config.rs", "src/cli/dev.rs"]),
    ("imbl", &["src/tree/", "src/policy/"]),
    ("hmac", &["src/peer/"]),
    ("nix", &["src/cli/", "src/probe/"]),
];

/// The layers that are values and functions, and what they must not know of.
const PURE: [&str; 12] = [
    "types", "identity", "policy", "registry", "traffic", "tree", "watch", "session", "batch",
    "codec", "zkcli", "jute",
];
const IMPURE: [&str; 9] = [
    "tokio",
    "tracing",
    "std::fs",
    "std::net",
    "std::thread",
    "std::time",
    "std::env",
    "Instant",
    "SystemTime",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|err| panic!("{path}: {err}"))
}

/// Returns the files below a directory of the project whose name ends like this, sorted, as paths from its root.
fn files(dir: &str, ending: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = vec![root().join(dir)];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|err| panic!("{}: {err}", dir.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let name = path.strip_prefix(root()).unwrap().to_str().expect("names are UTF-8");
            if name.ends_with(ending) {
                found.push(name.to_owned());
            }
        }
    }
    found.sort();
    found
}

fn is_test_file(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    path.starts_with("tests/")
        || path.contains("/tests/")
        || ["tests.rs", "testing.rs"].contains(&name)
        || name.ends_with("_test.rs")
        || name.ends_with("_tests.rs")
}

/// Returns a file without its unit tests.
fn product(text: &str) -> &str {
    let marks = text.match_indices("\n#[cfg(test)]\n");
    let opens = |rest: &str| rest.lines().nth(2).is_some_and(|line| line.ends_with("mod tests {"));
    let end = marks.map(|(at, _)| at).find(|at| opens(&text[*at..]));
    end.map_or(text, |at| &text[..at])
}

/// Returns a text without its comments.
fn code(text: &str) -> String {
    let bare = |line: &str| match line.trim_start() {
        comment if comment.starts_with("//") => String::new(),
        _ => line.split(" // ").next().unwrap_or(line).to_owned(),
    };
    text.lines().map(|line| bare(line) + "\n").collect()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Yields what follows each occurrence of a word, which must begin and end there.
fn after<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(word).filter_map(move |(at, _)| {
        let (before, rest) = (&text[..at], &text[at + word.len()..]);
        let whole =
            !(before.ends_with(is_word) || word.ends_with(is_word) && rest.starts_with(is_word));
        whole.then_some(rest)
    })
}

/// Returns the words between backticks.
fn quoted(text: &str) -> BTreeSet<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Returns the two columns of the table of layers in ARCHITECTURE.md.
fn layers() -> BTreeMap<String, BTreeSet<String>> {
    let text = read("ARCHITECTURE.md");
    let section =
        text.split("\n## Layers\n").nth(1).expect("ARCHITECTURE.md has a part named Layers");
    let section = section.split("\n## ").next().unwrap_or(section);
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let (layer, uses) = row[1..].split_once('|').expect("a row has two columns");
        (layer.trim().trim_matches('`').to_owned(), quoted(uses))
    })
    .collect()
}

fn layer_of(path: &str) -> &str {
    let rest = path.strip_prefix("src/").unwrap_or(path);
    rest.split('/').next().unwrap_or(rest).trim_end_matches(".rs")
}

#[test]
fn each_layer_uses_only_the_layers_that_architecture_md_allows() {
    let layers = layers();
    let mut wrong = Vec::new();
    for path in files("src", ".rs") {
        let layer = layer_of(&path);
        if is_test_file(&path) || layer == "lib" || layer == "main" {
            continue;
        }
        let Some(allowed) = layers.get(layer) else {
            wrong.push(format!("{path}: the layer {layer} is not in the table"));
            continue;
        };
        let text = read(&path);
        let text = code(product(&text));
        for used in after(&text, "crate::") {
            let used: String = used.chars().take_while(|c| is_word(*c)).collect();
            if used != layer && !allowed.contains(&used) {
                wrong.push(format!("{path} uses crate::{used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "layers (the table is in ARCHITECTURE.md):\n{}", wrong.join("\n"));
}

#[test]
fn each_library_is_named_only_where_it_is_at_home() {
    let mut wrong = Vec::new();
    for path in files("src", ".rs").iter().filter(|path| !is_test_file(path)) {
        let text = read(path);
        let text = code(product(&text));
        for (library, homes) in AT_HOME {
            let named = after(&text, library).any(|rest| rest.starts_with("::"));
            if named && !homes.iter().any(|home| path.starts_with(home)) {
                wrong.push(format!(
                    "{path} names {library}, which belongs to {}",
                    homes.join(" and ")
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_pure_layers_know_no_clock_no_io_no_threads_and_no_logs() {
    let mut wrong = Vec::new();
    for path in files("src", ".rs") {
        if !PURE.contains(&layer_of(&path)) || is_test_file(&path) {
            continue;
        }
        let text = read(&path);
        let text = code(product(&text));
        let named = IMPURE.iter().filter(|word| after(&text, word).next().is_some());
        wrong.extend(named.map(|word| format!("{path} names {word}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_release_has_a_planted_bug() {
    let manifest: toml::Table = read("Cargo.toml").parse().expect("Cargo.toml is TOML");
    let features = manifest["features"].as_table().expect("features is a table");
    for (feature, turns_on) in features.iter().filter(|(feature, _)| *feature != "mutants") {
        assert!(!turns_on.to_string().contains("mutants"), "the feature {feature} turns it on");
    }
    for path in files("src", ".rs").into_iter().chain(files("jepsen-like/src", ".rs")) {
        let text = code(&read(&path));
        let is_home = path.ends_with("src/mutants.rs");
        assert!(is_home || !text.contains("is_planted"), "{path}: say mutant!(…)");
        let ungated = text.split("pub(crate) fn is_planted").next().unwrap_or_default();
        assert!(
            !is_home || ungated.trim_end().ends_with("#[cfg(feature = \"mutants\")]"),
            "{path}"
        );
    }
    let program = fs::read(env!("CARGO_BIN_EXE_roost")).expect("the program is built");
    let word = b"ROOST_MUTANT";
    let has_it = program.windows(word.len()).any(|window| window == word);
    assert_eq!(has_it, cfg!(feature = "mutants"), "the program knows of planted bugs");
}

#[test]
fn flush_async_is_called_nowhere() {
    for path in files("src", ".rs") {
        let found = after(&code(&read(&path)), "flush_async").next().is_some();
        assert!(!found, "{path}: flush_async of sled can deadlock");
    }
}

/// A simulation repeats itself from its seed only if nothing in a node chooses by chance among what is ready.
#[test]
fn a_node_chooses_in_a_fixed_order_among_what_is_ready() {
    let mut seen = 0;
    for path in files("src/node", ".rs") {
        for rest in after(&code(&read(&path)), "select!") {
            seen += 1;
            let body = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '{');
            assert!(body.starts_with("biased;"), "{path}: {:.60}", body);
        }
    }
    assert!(seen > 5, "{seen}");
}

#[test]
fn every_folder_of_the_source_begins_with_its_purpose() {
    for path in files("src", "mod.rs").into_iter().chain(files("jepsen-like/src", "mod.rs")) {
        assert!(read(&path).starts_with("//! "), "{path} opens with what it is for");
    }
}

#[test]
fn files_can_be_read_in_one_sitting() {
    let mut wrong = Vec::new();
    let all = ["src", "tests", "jepsen-like/src", "jepsen-like/tests"];
    for path in all.into_iter().flat_map(|dir| files(dir, ".rs")) {
        let text = read(&path);
        let (lines, max) = match is_test_file(&path) {
            true => (text.lines().count(), TEST_LINES_MAX),
            false => (product(&text).lines().count(), CODE_LINES_MAX),
        };
        match LONG_FILES.iter().find(|(long, _, _)| *long == path) {
            None if lines > max => wrong.push(format!("{path} has {lines} lines: divide it")),
            Some((_, allowed, _)) if lines > *allowed => {
                wrong
                    .push(format!("{path} has {lines} lines, it was allowed {allowed}: divide it"));
            }
            Some(_) if lines <= max => {
                wrong.push(format!(
                    "{path} has only {lines} lines: take it off the list in tests/tidy.rs"
                ));
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_is_left_to_do_in_comments() {
    let words =
        [["TO", "DO"], ["FIX", "ME"], ["XX", "X"], ["dbg", "!"]].map(|parts| parts.concat());
    let places = [
        ("src", ".rs"),
        ("tests", ".rs"),
        ("jepsen-like/src", ".rs"),
        ("jepsen-like/tests", ".rs"),
        ("scripts", ".sh"),
        ("docs", ".md"),
    ];
    for path in places.into_iter().flat_map(|(dir, ending)| files(dir, ending)) {
        let text = read(&path);
        let found = words.iter().find(|word| after(&text, word).next().is_some());
        assert!(found.is_none(), "{path} has {found:?}: do it, or file it");
    }
}

#[test]
fn a_sleep_in_a_test_that_is_long_or_computed_says_why() {
    let mut wrong = Vec::new();
    let all = files("src", ".rs").into_iter().chain(files("tests", ".rs"));
    for path in all.filter(|path| is_test_file(path) && path != "tests/tidy.rs") {
        let text = read(&path);
        if text.contains("start_paused") {
            continue; // Waiting costs nothing there.
        }
        let lines: Vec<&str> = text.lines().collect();
        let sleeps = |line: &str| ["sleep(", "sleep_until("].iter().any(|it| line.contains(it));
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| sleeps(line)) {
            // Only a number that stands there can be seen to be small.
            let ms = after(line, "from_millis(")
                .next()
                .and_then(|rest| rest.split(')').next()?.replace('_', "").parse::<u64>().ok());
            let is_short = ms.is_some_and(|ms| ms < 500);
            if !is_short && !lines[at.saturating_sub(1)].trim_start().starts_with("//") {
                wrong.push(format!("{path}:{}", at + 1));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "wait for a condition; where time itself is the matter, the line above says so:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn every_direct_dependency_has_its_reason() {
    for manifest in ["Cargo.toml", "jepsen-like/Cargo.toml"] {
        let text = read(manifest);
        let lines: Vec<&str> = text.lines().collect();
        let mut section = "";
        for (at, line) in lines.iter().enumerate() {
            if line.starts_with('[') {
                section = line;
            } else if section.ends_with("dependencies]") && line.contains(" = ") {
                assert!(
                    at > 0 && lines[at - 1].starts_with("# "),
                    "{manifest}:{}: a comment above says what it is for: {line}",
                    at + 1
                );
            }
        }
    }
}

/// Returns each constant of `limits.rs` with its expression and its docstring.
fn limits() -> Vec<(String, String, String)> {
    let text = read("src/limits.rs");
    let mut found = Vec::new();
    let mut doc: Vec<String> = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(words) = line.strip_prefix("/// ") {
            doc.push(words.replace("[`", "`").replace("`]", "`"));
            continue;
        }
        if let Some(rest) = line.strip_prefix("pub const ") {
            let (name, rest) = rest.split_once(':').expect("a constant has a type");
            let expression = rest.split_once(" = ").expect("and a value on the same line").1;
            found.push((
                name.to_owned(),
                expression.trim_end_matches(';').to_owned(),
                doc.join(" "),
            ));
        }
        doc.clear();
    }
    found
}

/// Returns a limit as people read it: `4 << 20` of a name in bytes is 4 MiB.
fn shown(name: &str, expression: &str) -> String {
    let plain = expression.replace('_', "");
    let (base, shift) = plain.split_once(" << ").unwrap_or((&plain, "0"));
    let (Ok(base), Ok(shift)) = (base.parse::<u64>(), shift.parse::<u32>()) else {
        return format!("`{expression}`");
    };
    let value = base << shift;
    match name.contains("BYTES") {
        true if value % (1 << 20) == 0 => format!("{} MiB", value >> 20),
        true if value % (1 << 10) == 0 => format!("{} KiB", value >> 10),
        _ => thousands(value),
    }
}

fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut shown = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

#[test]
fn every_limit_is_used_and_stands_in_operations_md_as_it_is() {
    let document = read("docs/OPERATIONS.md");
    let mut sources = files("src", ".rs");
    sources.retain(|path| path != "src/limits.rs");
    let sources: String = sources.iter().map(|path| code(product(&read(path)))).collect();
    let limits = limits();
    assert!(limits.len() > 50, "limits.rs was not understood: {limits:?}");
    let mut missing = Vec::new();
    for (name, expression, doc) in &limits {
        assert!(after(&sources, name).next().is_some(), "{name} bounds nothing: remove it");
        assert!(!doc.is_empty(), "{name} says what it bounds and what happens beyond");
        let row = format!("| `{name}` | {} | {doc} |", shown(name, expression));
        if !document.lines().any(|line| line == row) {
            missing.push(row);
        }
    }
    assert!(missing.is_empty(), "rows that docs/OPERATIONS.md must have:\n{}", missing.join("\n"));
    let names: BTreeSet<&str> = limits.iter().map(|(name, _, _)| name.as_str()).collect();
    let rows =
        document.split("\n## Limits\n").nth(1).expect("OPERATIONS.md has a part named Limits");
    for row in rows.lines().filter(|line| line.starts_with("| `")) {
        let name = row.split('`').nth(1).unwrap_or_default();
        assert!(names.contains(name), "docs/OPERATIONS.md knows {name}, src/limits.rs does not");
    }
}

#[test]
fn documents_speak_only_of_files_that_exist() {
    let mut documents = files("docs", ".md");
    let others = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"];
    documents.extend(others.map(str::to_owned));
    let tops = ["jepsen-like/", "src/", "tests/", "docs/", "config/", "scripts/", ".ci/"];
    let mut wrong = Vec::new();
    for document in documents {
        let text = read(&document);
        let here = root().join(&document);
        let here = here.parent().unwrap_or(root());
        for named in
            quoted(&text).iter().filter(|word| tops.iter().any(|top| word.starts_with(top)))
        {
            if !root().join(named).exists() {
                wrong.push(format!("{document}: `{named}`"));
            }
        }
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or(link);
            if !link.starts_with("http") && !path.is_empty() && !here.join(path).exists() {
                wrong.push(format!("{document}: ({link})"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_example_configurations_load() {
    let examples = files("config", ".toml");
    assert_eq!(examples.len(), 4, "{examples:?}");
    for example in &examples {
        Config::load(&root().join(example)).unwrap();
    }
    let ids = [1, 2, 3]
        .map(|n| Config::load(&root().join(format!("config/cluster-3/{n}.toml"))).unwrap().node.id);
    assert_eq!(ids, [1, 2, 3]);
}

/// Returns the keys of the configuration as `section.key`, from the structs that it is read into.
fn config_keys() -> BTreeSet<String> {
    let text = read("src/config.rs");
    let mut structs: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    let mut current = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("pub struct ") {
            current = Some(name.trim_end_matches(" {").to_owned());
        } else if line == "}" {
            current = None;
        } else if let (Some(name), Some(field)) = (&current, line.trim().strip_prefix("pub ")) {
            let (key, kind) = field.split_once(": ").expect("a field has a type");
            let field = (key.to_owned(), kind.trim_end_matches(',').to_owned());
            structs.entry(name.clone()).or_default().push(field);
        }
    }
    let sections = structs["Config"].iter();
    sections
        .flat_map(|(section, kind)| {
            let kind = kind.trim_start_matches("Option<").trim_end_matches('>');
            structs[kind].iter().map(move |(key, _)| format!("{section}.{key}"))
        })
        .collect()
}

#[test]
fn the_example_of_one_node_has_every_key_and_shows_the_true_defaults() {
    let text = read("config/node.toml");
    let mut section = "";
    let mut shown = BTreeSet::new();
    let mut spelt_out = String::new();
    for line in text.lines() {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        let key = bare.split_once(" = ").map(|(key, _)| key).filter(|key| key.chars().all(is_word));
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        }
        if let Some(key) = key {
            shown.insert(format!("{section}.{key}"));
        }
        spelt_out += if key.is_some() { bare } else { line };
        spelt_out.push('\n');
    }
    assert_eq!(shown, config_keys(), "config/node.toml and src/config.rs");
    let (brief, full) = (Config::parse(&text).unwrap(), Config::parse(&spelt_out).unwrap());
    assert_eq!(format!("{brief:?}"), format!("{full:?}"), "a commented value is not the default");
    let document = read("docs/OPERATIONS.md");
    for key in &shown {
        assert!(document.contains(&format!("| `{key}` |")), "docs/OPERATIONS.md lacks {key}");
    }
}

#[test]
fn the_test_command_of_the_readme_is_what_the_gate_runs() {
    let readme = read("README.md");
    let command = readme.lines().find(|line| line.starts_with("cargo test")).expect("it has one");
    let gate = read("scripts/check.sh");
    let runs = |line: &str| line.trim_start().strip_prefix("step ") == Some(command);
    assert!(gate.lines().any(runs), "scripts/check.sh does not run {command:?}");
    assert!(command.contains("--workspace"), "{command:?} leaves tests out");
}
