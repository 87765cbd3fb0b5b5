//! What brings programs into the registry that know nothing of it, and keeps files up to date for those that read files.
//!
//! `run` is for providers: a command is registered while it runs, and, when a check is given, only while that passes.
//! `render` is for consumers: a file is written from a template, and a command executed, when the providers change. Both
//! are thin: the [`sdk`](crate::sdk) does the work, and what decides is pure, in `check` (k of n) and `debounce` (when to
//! write).
//!
//! Rules:
//!
//! - The command that runs is the purpose and the registration its shadow: nothing that happens to the registry touches
//!   the command, and a registry that is away takes nothing from a file that has been written.
//! - What is written is whole, and the last state is always written, however fast the changes came before it.
//! - What providers say of themselves is data of strangers: a host that is not a name or an address reaches no template.
//!
//! What it lacks on purpose: restarting the command, watching its memory, or running it elsewhere: that is for whatever
//! starts `roost`.

pub mod args;
pub mod check;
mod debounce;
pub(super) mod render;
pub(super) mod run;
mod template;

use super::args::GlobalArgs;
use super::service::NamespaceArgs;
use crate::client::Error;
use crate::sdk::Registry;

/// Returns the registry that is named on the command line, of whose services those of the namespace are meant.
fn registry(of: &NamespaceArgs, global: &GlobalArgs) -> Result<Registry, Error> {
    let registry = Registry::new("registry", &global.endpoint)?;
    Ok(match &*of.namespace {
        "" => registry,
        namespace => registry.in_namespace(namespace),
    })
}
