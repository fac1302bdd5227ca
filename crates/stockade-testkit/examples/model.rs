//! A model server that follows a script, for demonstrations: `model SCRIPT.json` prints its port
//! and serves until it is ended.
#![expect(clippy::print_stdout, reason = "whoever starts it reads the port")]

use std::error::Error;
use std::{env, fs, thread};

use stockade_testkit::model::{FakeModel, Step};

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args_os().nth(1).ok_or("usage: model SCRIPT.json")?;
    let script = Step::read_script(&fs::read_to_string(path)?)?;
    let model = FakeModel::start(script)?;
    println!("{}", model.port());
    loop {
        thread::park();
    }
}
