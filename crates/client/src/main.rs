//! The command line of the inventory's caller.

use client::settings::Settings;

fn main() {
    let _settings: Settings = app::parse();
}
