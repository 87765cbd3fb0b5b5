//! The `roost-jepsen` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    roost_jepsen::cli::main()
}
