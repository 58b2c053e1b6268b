//! `list`.

use std::path::PathBuf;

use serde::Serialize;

use super::state::View;
use crate::cli::Global;
use crate::error::Error;
use crate::record::Place;

#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    format: String,
    /// Ids only
    #[arg(short, long)]
    quiet: bool,
}

pub(crate) fn list(global: &Global, args: &List) -> Result<(), Error> {
    let mut views = Vec::new();
    for entry in std::fs::read_dir(&global.root)
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        // One that is being made or removed is not there.
        if let Ok(place) = Place::new(global, &name)
            && let Ok((container, record)) = place.load()
        {
            views.push(View::of(&container, &record));
        }
    }
    views.sort_by(|a, b| a.id.cmp(&b.id));
    if args.quiet {
        for view in &views {
            println!("{}", view.id);
        }
        return Ok(());
    }
    if args.format == "json" {
        println!("{}", json(&views)?);
        return Ok(());
    }
    println!(
        "{:<40} {:<8} {:<9} {:<30} BUNDLE",
        "ID", "PID", "STATUS", "CREATED"
    );
    for view in &views {
        println!(
            "{:<40} {:<8} {:<9} {:<30} {}",
            view.id, view.pid, view.status, view.created, view.bundle
        );
    }
    Ok(())
}

/// A value as JSON.
pub(super) fn json(value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|source| Error::Json {
        path: PathBuf::from("the answer"),
        source,
    })
}
