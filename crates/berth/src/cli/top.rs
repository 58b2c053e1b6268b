//! `berth top`: classes, nodes and pods, and what each sandbox costs against what its class declares.

mod gather;
mod picture;
mod screen;

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::Context as _;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use super::access::AccessArgs;
use gather::Gatherer;
use picture::Picture;
use screen::Screen;

/// How often keys are looked for.
const KEYS: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Keys: tab shows classes, nodes or pods; arrows and page keys scroll; q ends it.\n\n\
                  Example:\n  kubectl berth top --once"
)]
pub(super) struct TopArgs {
    /// Only pods of this namespace
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
    /// Print tables once, and end; so it is as well where the output is no terminal
    #[arg(long)]
    once: bool,
    #[command(flatten, next_help_heading = "Access")]
    access: AccessArgs,
}

impl TopArgs {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.access.client().await?;
        let mut gatherer = Gatherer::new(client, self.namespace.clone());
        let first = gatherer.gather().await?;
        let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        if self.once || !terminal {
            let text = screen::tables(&first);
            return write!(std::io::stdout().lock(), "{text}")
                .context("cannot write to standard output");
        }
        let mut terminal = ratatui::try_init().context("cannot use the terminal")?;
        let ended = self.show(&mut terminal, gatherer, first).await;
        ratatui::restore();
        ended
    }

    /// Shows what there is until somebody ends it. A look that fails is told below what was seen before.
    async fn show(
        &self,
        terminal: &mut ratatui::DefaultTerminal,
        mut gatherer: Gatherer,
        first: Picture,
    ) -> anyhow::Result<()> {
        let pause = Duration::from_secs(self.interval);
        let (pictures, mut news) = tokio::sync::mpsc::channel(1);
        let looks = tokio::spawn(async move {
            loop {
                tokio::time::sleep(pause).await;
                if pictures.send(gatherer.gather().await).await.is_err() {
                    return;
                }
            }
        });
        let mut screen = Screen::new(first);
        let ended = loop {
            while let Ok(news) = news.try_recv() {
                match news {
                    Ok(picture) => screen.show(picture),
                    Err(error) => screen.failed(&format!("{error:#}")),
                }
            }
            if let Err(error) = terminal.draw(|frame| screen.draw(frame)) {
                break Err(error.into());
            }
            match tokio::task::spawn_blocking(key).await {
                Ok(Ok(Some(Key::End))) => break Ok(()),
                Ok(Ok(Some(Key::Move(by)))) => screen.scroll(by),
                Ok(Ok(Some(Key::Next(by)))) => screen.turn(by),
                Ok(Ok(None)) => {}
                Ok(Err(error)) => break Err(error.into()),
                Err(error) => break Err(error.into()),
            }
        };
        looks.abort();
        ended
    }
}

enum Key {
    End,
    /// So many lines down.
    Move(i32),
    /// So many tabs on.
    Next(i32),
}

/// The next key that means something, if one comes soon.
fn key() -> std::io::Result<Option<Key>> {
    if !event::poll(KEYS)? {
        return Ok(None);
    }
    let Event::Key(key) = event::read()? else {
        return Ok(None);
    };
    if key.kind == KeyEventKind::Release {
        return Ok(None);
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    Ok(match key.code {
        KeyCode::Char('q') | KeyCode::Esc => Some(Key::End),
        KeyCode::Char('c') if control => Some(Key::End),
        KeyCode::Up | KeyCode::Char('k') => Some(Key::Move(-1)),
        KeyCode::Down | KeyCode::Char('j') => Some(Key::Move(1)),
        KeyCode::PageUp => Some(Key::Move(-10)),
        KeyCode::PageDown => Some(Key::Move(10)),
        KeyCode::Tab | KeyCode::Right => Some(Key::Next(1)),
        KeyCode::BackTab | KeyCode::Left => Some(Key::Next(-1)),
        _ => None,
    })
}
