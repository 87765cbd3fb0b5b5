//! `roost shell`: the verbs of the command line, read from a prompt with history and completion.

use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Editor, Helper};
use tokio::runtime::Handle;

use super::args::{GlobalArgs, Verb};
use super::output::Failure;
use super::signal::interrupted;
use super::{Context, execute_verb};
use crate::client::{Client, ReadOptions};

/// Completion must not make the prompt wait longer.
const COMPLETION_TIMEOUT: Duration = Duration::from_millis(500);
/// Completion shows no more than this.
const CANDIDATES_MAX: usize = 200;

/// One line of the shell.
#[derive(Debug, Parser)]
#[command(name = "", no_binary_name = true, disable_version_flag = true)]
struct Line {
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: LineVerb,
}

#[derive(Debug, Subcommand)]
enum LineVerb {
    #[command(flatten)]
    Verb(Verb),
    /// Leave the shell; its session is closed.
    #[command(visible_alias = "exit")]
    Quit,
}

/// Splits and parses a line; `None` for an empty one. The error is to be printed as it is, and may be the
/// help.
fn parse(line: &str) -> Result<Option<Line>, String> {
    let words = shlex::split(line).ok_or_else(|| "a quote is not closed\n".to_owned())?;
    if words.is_empty() {
        return Ok(None);
    }
    Line::try_parse_from(words).map(Some).map_err(|err| err.render().to_string())
}

/// Reads and carries out lines until `quit` or the end of the input. A failed line does not end the shell.
pub(super) async fn execute(global: &GlobalArgs) -> Result<(), Failure> {
    let mut context = Context::new(global)?;
    context.is_shell = true;
    let mut editor = open_editor(&context.client)?;
    loop {
        let prompt = format!("roost {}> ", context.client.endpoint().trim_start_matches("http://"));
        let reading = tokio::task::spawn_blocking(move || {
            let line = editor.readline(&prompt);
            (editor, line)
        });
        let (returned, line) = reading
            .await
            .map_err(|err| Failure::Local(format!("the line editor failed: {err}")))?;
        editor = returned;
        let line = match line {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(err) => return Err(Failure::Local(format!("cannot read a line: {err}"))),
        };
        // A history that cannot be kept is not worth a word.
        let _ = editor.add_history_entry(&line);
        match parse(&line) {
            Ok(None) => {}
            Ok(Some(Line { verb: LineVerb::Quit, .. })) => break,
            Ok(Some(Line { verb: LineVerb::Verb(verb), json })) => {
                context.output.json = json || global.json;
                run_verb(verb, &mut context).await?;
            }
            Err(text) => eprint!("{text}"),
        }
    }
    if let Some(file) = history_file() {
        let _ = file.parent().map(std::fs::create_dir_all);
        let _ = editor.save_history(&file);
    }
    context.leave().await
}

/// Carries a verb out until it is done or interrupted, and reports how it failed. Error: nobody reads the
/// output.
async fn run_verb(verb: Verb, context: &mut Context) -> Result<(), Failure> {
    let as_json = context.output.json;
    let result = tokio::select! {
        result = execute_verb(verb, context) => result,
        () = interrupted() => Ok(()),
    };
    match result {
        Err(Failure::Pipe) => Err(Failure::Pipe),
        Err(failure) => {
            failure.report(as_json);
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

fn open_editor(client: &Client) -> Result<Editor<Completion, DefaultHistory>, Failure> {
    // As in bash: what is common is completed, and a second tab lists what there is.
    let config = Config::builder().completion_type(CompletionType::List).build();
    let mut editor = Editor::with_config(config)
        .map_err(|err| Failure::Local(format!("cannot open the terminal: {err}")))?;
    editor.set_helper(Some(Completion {
        client: client.with_timeout(COMPLETION_TIMEOUT).impatient(),
        runtime: Handle::current(),
    }));
    if let Some(file) = history_file() {
        // There is none at the first start.
        let _ = editor.load_history(&file);
    }
    Ok(editor)
}

/// Returns where the history is kept: the user's state directory. `None` without a home.
fn history_file() -> Option<PathBuf> {
    let absolute =
        |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state =
        absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join("roost/history"))
}

/// Completes verbs from the command tree and paths from the cluster.
struct Completion {
    client: Client,
    runtime: Handle,
}

// The line editor demands all of these; completion is the only one of use here.
impl Helper for Completion {}
impl Highlighter for Completion {}
impl Validator for Completion {}
impl Hinter for Completion {
    type Hint = String;
}

impl Completer for Completion {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _: &rustyline::Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (start, word) = last_word(&line[..pos]);
        let replacements = match path_parent(word) {
            Some(parent) => {
                let asked = self.client.children(parent, false, false, ReadOptions::Stale);
                let children = self.runtime.block_on(asked);
                let names = children.into_iter().flat_map(|children| children.children);
                complete_path(word, names.map(|child| child.name))
            }
            None => complete_verb(&line[..start], word),
        };
        let pair = |replacement: String| Pair { display: replacement.clone(), replacement };
        Ok((start, replacements.into_iter().map(pair).collect()))
    }
}

/// Returns the word before the cursor and where it begins.
fn last_word(line: &str) -> (usize, &str) {
    let start = line.rfind(char::is_whitespace).map_or(0, |at| at + 1);
    (start, &line[start..])
}

/// Returns the parent of the path that a word begins; `None` when it is no path.
fn path_parent(word: &str) -> Option<&str> {
    match word.rfind('/')? {
        _ if !word.starts_with('/') => None,
        0 => Some("/"),
        at => Some(&word[..at]),
    }
}

/// Returns the paths that a word may become, given the names of the children of its parent.
fn complete_path(word: &str, names: impl Iterator<Item = String>) -> Vec<String> {
    let (base, prefix) = word.split_at(word.rfind('/').map_or(0, |at| at + 1));
    names
        .filter(|name| name.starts_with(prefix))
        .take(CANDIDATES_MAX)
        .map(|name| format!("{base}{name}"))
        .collect()
}

/// Returns the subcommands that a word may become after these words.
fn complete_verb(before: &str, word: &str) -> Vec<String> {
    let mut command = Line::command();
    for word in before.split_whitespace() {
        match command.find_subcommand(word) {
            Some(found) => command = found.clone(),
            None => return Vec::new(),
        }
    }
    let names = command.get_subcommands().map(|command| command.get_name().to_owned());
    names.filter(|name| name.starts_with(word)).collect()
}

#[cfg(test)]
mod tests {
    use super::{Line, LineVerb, complete_path, complete_verb, last_word, parse, path_parent};
    use crate::cli::args::Verb;

    #[test]
    fn a_line_is_split_like_a_shells_and_parsed_like_the_command_lines() {
        let line = parse(r#"create -e /a '{"x": 1}' --json"#).unwrap().unwrap();
        assert!(line.json);
        let LineVerb::Verb(Verb::Create(create)) = line.verb else { panic!("not a create") };
        assert!(create.ephemeral);
        assert_eq!(create.data, r#"{"x": 1}"#);
        assert!(matches!(parse("exit"), Ok(Some(Line { verb: LineVerb::Quit, .. }))));
        assert!(matches!(parse("  "), Ok(None)));
        assert!(parse("get '").unwrap_err().contains("quote"));
        assert!(parse("fly /").unwrap_err().contains("fly"));
        assert!(parse("help").unwrap_err().contains("watch"));
    }

    #[test]
    fn words_become_verbs_at_their_place_and_paths_anywhere() {
        assert_eq!(complete_verb("", "se"), ["set", "setacl", "session", "services", "service"]);
        assert_eq!(complete_verb("session ", "c"), ["close"]);
        assert!(complete_verb("ls ", "x").is_empty());
        assert_eq!(last_word("ls /a/b"), (3, "/a/b"));
        assert_eq!(path_parent("/a/b"), Some("/a"));
        assert_eq!(path_parent("/a"), Some("/"));
        assert_eq!(path_parent("a/b"), None);
        let names = ["web", "weather", "db"].map(str::to_owned);
        assert_eq!(complete_path("/s/we", names.into_iter()), ["/s/web", "/s/weather"]);
    }
}
