//! Runs schedules, in parallel, and fails when one of them breaks a promise.

fn main() -> std::process::ExitCode {
    ringcentral_simulation::runner::main(std::env::args_os())
}
