//! Arguments of `up`, `down` and `sign`.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use crate::instant::parse_span;

#[derive(Args, Debug)]
pub(crate) struct Up {
    /// Port of the gateway; 0 takes any free one
    #[arg(long, value_name = "N")]
    pub(crate) port: Option<u16>,
    /// Start in the background and return when the server is ready
    #[arg(long)]
    pub(crate) detach: bool,
    /// Setting for this start, over file and environment; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_setting)]
    pub(crate) settings: Vec<(String, String)>,
}

#[derive(Args, Debug)]
pub(crate) struct Down {
    /// How long to wait for the end of the server
    #[arg(long, value_name = "SPAN", default_value = "60s", value_parser = parse_span)]
    pub(crate) timeout: Duration,
}

#[derive(Args, Debug)]
pub(crate) struct Sign {
    /// Directory with agent.toml and the files that it names
    #[arg(value_name = "PACKAGE_DIR")]
    pub(crate) package: PathBuf,
    /// Private key of a publisher [default: keys/publisher.key of the data directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Where to write the envelope [default: PACKAGE_DIR/agent.dsse.json]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("'{text}' is not KEY=VALUE")),
    }
}
