//! The proxy: settings, logging, wiring, signals. Everything that lives longer than a call is made here, once,
//! and handed to whoever needs it.

mod logging;
mod observer;
mod pages;
mod servers;
mod settings;
mod supervisor;

use settings::Outcome;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = settings::read_dotenv(Path::new(".env"))
        .and_then(|dotenv| settings::load(std::env::args_os().skip(1), |var| std::env::var_os(var), &dotenv));
    let ended = match outcome {
        Ok(Outcome::Print(text)) => {
            println!("{text}");
            Ok(())
        }
        Ok(Outcome::Run(settings)) => {
            let logging = logging::init(settings.log_format, settings.log_level);
            logging.map_err(|error| format!("cannot log: {error}")).and_then(|unwritten| {
                let ended = supervisor::run(&settings);
                unwritten.flush();
                ended
            })
        }
        Err(line) => Err(line),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => {
            eprintln!("srs-proxy: {line}");
            ExitCode::FAILURE
        }
    }
}
