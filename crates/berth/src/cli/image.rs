//! `berth image`: the images in a runtime's store. Works while the runtime runs, and without it.

mod progress;

use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, anyhow, bail};
use berth_image::{Auth, ImageStore, PullRequest, StoreOptions};
use clap::Subcommand;

use crate::data_dir::{self, DataDir};
use crate::dirs::DirArgs;
use crate::role::cri::{HandlerArgs, ImageArgs, embedded_command};

#[derive(Debug, clap::Args)]
pub(super) struct ImageCommand {
    #[command(subcommand)]
    command: ImageSubcommand,
}

#[derive(Debug, Subcommand)]
enum ImageSubcommand {
    /// Bring images in from a file: docker-archive tar, OCI layout tar or OCI layout directory
    Import {
        /// The tar file or directory
        file: PathBuf,
        /// Name for the image, instead of the one in the file
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        #[command(flatten)]
        dirs: DirArgs,
    },
    /// Pull an image from its registry
    Pull {
        /// The image, e.g. docker.io/library/busybox:1.36
        image: String,
        /// User at the registry
        #[arg(long, value_name = "NAME")]
        username: Option<String>,
        /// Read that user's password from standard input
        #[arg(long, requires = "username")]
        password_stdin: bool,
        #[command(flatten)]
        images: ImageArgs,
        #[command(flatten)]
        handlers: HandlerArgs,
        #[command(flatten)]
        dirs: DirArgs,
    },
    /// List the images
    #[command(visible_alias = "list")]
    Ls {
        #[command(flatten)]
        dirs: DirArgs,
    },
    /// Remove images, by name or id
    #[command(visible_alias = "remove")]
    Rm {
        /// The images
        #[arg(required = true)]
        images: Vec<String>,
        #[command(flatten)]
        dirs: DirArgs,
    },
}

impl ImageCommand {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self.command {
            ImageSubcommand::Import { file, name, dirs } => {
                let store = open(&dirs, StoreOptions::default())?;
                let report = store
                    .import(&file, name.as_deref(), progress::to_stderr())
                    .await
                    .map_err(|error| anyhow!(error.report()))
                    .with_context(|| format!("cannot import {}", file.display()))?;
                for warning in report.warnings {
                    eprintln!("berth: {warning}");
                }
                for image in &report.images {
                    print_line(&format!("{}  {}", names(image), image.id))?;
                }
                Ok(())
            }
            ImageSubcommand::Pull {
                image,
                username,
                password_stdin,
                images,
                handlers,
                dirs,
            } => {
                let mut options = StoreOptions::default();
                let chosen = hosts_dirs(images.hosts_dir, &handlers)?;
                if !chosen.is_empty() {
                    options.hosts_dirs = chosen;
                }
                if let Some(bytes) = images.image_reserve {
                    options.limits.keep_free = bytes;
                }
                let store = open(&dirs, options)?;
                let mut request = PullRequest::new(&image);
                if let Some(username) = username {
                    let password = if password_stdin {
                        read_password()?
                    } else {
                        String::new()
                    };
                    request.auth = Some(Auth {
                        username,
                        password,
                        ..Auth::default()
                    });
                }
                let pulled = store
                    .pull(request, progress::to_stderr())
                    .await
                    .map_err(|error| anyhow!(error.report()))
                    .with_context(|| format!("cannot pull {image}"))?;
                print_line(&format!("{}  {}", names(&pulled), pulled.id))
            }
            ImageSubcommand::Ls { dirs } => {
                if data_dir::is_absent(&dirs.data_dir)? {
                    // Looking makes nothing.
                    return print_rows(&[]);
                }
                list(&open(&dirs, StoreOptions::default())?)
            }
            ImageSubcommand::Rm { images, dirs } => {
                let store = open(&dirs, StoreOptions::default())?;
                let mut missing = Vec::new();
                for image in images {
                    let removed = store
                        .remove(&image)
                        .map_err(|error| anyhow!(error.report()))?;
                    match removed {
                        Some(_) => print_line(&format!("removed {image}"))?,
                        None => missing.push(image),
                    }
                }
                if !missing.is_empty() {
                    bail!(
                        "no such image: {}; `berth image ls` shows what there is",
                        missing.join(", ")
                    );
                }
                Ok(())
            }
        }
    }
}

fn open(dirs: &DirArgs, options: StoreOptions) -> anyhow::Result<ImageStore> {
    if data_dir::read_marker(&dirs.data_dir)?.is_none() {
        // A new directory is marked, or a later start would take it for somebody else's.
        let (bridge, pod_cidr) = dirs.network();
        DataDir::open(&dirs.data_dir, || data_dir::marker(bridge, pod_cidr))?;
    }
    let root = dirs.data_dir.join("cri/images");
    ImageStore::open(&root, options)
        .map_err(|error| anyhow!(error.report()))
        .with_context(|| format!("cannot open the image store {}", root.display()))
}

/// Where registries' settings are, as for the runtime: what the flags say, then what the handlers' file says.
fn hosts_dirs(mut flags: Vec<PathBuf>, handlers: &HandlerArgs) -> anyhow::Result<Vec<PathBuf>> {
    let source = handlers.source();
    let found = source
        .hosts_dirs(&embedded_command()?)
        .context("cannot read the registries' settings beside the runtime handlers")?;
    flags.extend(found);
    Ok(flags)
}

fn list(store: &ImageStore) -> anyhow::Result<()> {
    let mut images = store.list().map_err(|error| anyhow!(error.report()))?;
    images.sort_by(|a, b| a.repo_tags.cmp(&b.repo_tags));
    let rows: Vec<[String; 3]> = images
        .iter()
        .map(|image| {
            let id: String = image
                .id
                .to_string()
                .trim_start_matches("sha256:")
                .chars()
                .take(12)
                .collect();
            [names(image), id, size(image.size)]
        })
        .collect();
    print_rows(&rows)
}

fn print_rows(rows: &[[String; 3]]) -> anyhow::Result<()> {
    let width = rows
        .iter()
        .map(|[name, ..]| name.len())
        .max()
        .unwrap_or(0)
        .max(5);
    print_line(&format!("{:<width$}  {:<12}  {:>9}", "IMAGE", "ID", "SIZE"))?;
    for [name, id, size] in rows {
        print_line(&format!("{name:<width$}  {id:<12}  {size:>9}"))?;
    }
    Ok(())
}

fn names(image: &berth_image::Image) -> String {
    let names = if image.repo_tags.is_empty() {
        &image.repo_digests
    } else {
        &image.repo_tags
    };
    if names.is_empty() {
        "<none>".to_owned()
    } else {
        names.join(",")
    }
}

/// Bytes as a person reads them.
fn size(bytes: u64) -> String {
    let (mut whole, mut tenth) = (bytes, 0);
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if whole < 1024 {
            return if unit == "B" {
                format!("{whole}B")
            } else {
                format!("{whole}.{tenth}{unit}")
            };
        }
        tenth = (whole % 1024) * 10 / 1024;
        whole /= 1024;
    }
    format!("{whole}.{tenth}TiB")
}

fn read_password() -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .context("cannot read the password")?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

fn print_line(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{line}").context("cannot write to standard output")
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_short() {
        let cases = [
            (0, "0B"),
            (1023, "1023B"),
            (1536, "1.5KiB"),
            (5 << 20, "5.0MiB"),
            (3 << 40, "3.0TiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
    }
}
