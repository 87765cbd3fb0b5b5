//! The `roost` program: parses its command line, carries it out, and exits with the code that says how it went.

use std::process::ExitCode;

use roost::cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = cli::Args::from_command_line();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(cli::execute(args));
            // A thread that still waits for a line of input must not keep the process.
            runtime.shutdown_background();
            code
        }
        Err(err) => {
            eprintln!("roost: cannot start: {err}");
            ExitCode::FAILURE
        }
    }
}
