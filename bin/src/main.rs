//! The srs-proxy program.
#![cfg_attr(
    not(test),
    expect(dead_code, reason = "the servers that the settings are for are not started yet")
)]

mod logging;
mod settings;

use settings::Outcome;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = settings::read_dotenv(Path::new(".env"))
        .and_then(|dotenv| settings::load(std::env::args_os().skip(1), |var| std::env::var_os(var), &dotenv));
    match outcome {
        Ok(Outcome::Print(text)) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Ok(Outcome::Run(settings)) => {
            logging::init(settings.log_format, settings.log_level);
            log::info!("{settings:?}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("srs-proxy: {why}");
            ExitCode::FAILURE
        }
    }
}
