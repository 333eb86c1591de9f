//! Keeps the program of the previous feature level out of what is shipped.

use std::path::Path;

fn main() -> Result<(), String> {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_PREVIOUS_LEVEL").is_none() {
        return Ok(());
    }
    let out = std::env::var("OUT_DIR").map_err(|error| format!("OUT_DIR: {error}"))?;
    // target/<profile>/build/<package>/out
    let profile = Path::new(&out).ancestors().nth(3).and_then(Path::file_name);
    if profile.is_some_and(|profile| profile == "dist") {
        return Err("the feature `previous-level` is for upgrade tests and is not shipped".to_owned());
    }
    Ok(())
}
