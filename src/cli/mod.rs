//! What the user typed, and which command it means.
//!
//! Each command is a file of its own: check, call the library, print. None knows another; what they share stands in
//! `inputs.rs` (paths, labels), `classes.rs` (labels to rows), `rows.rs` (images to rows), `store.rs` and `filter.rs`
//! (which index, and what of it), `exchange/` (rows in files of other programs), `output.rs` (results), `sheet.rs` (results
//! with small photos: `grid.rs` and `lettering.rs` as a picture, `page.rs` as HTML), `terminal.rs` and `sixel.rs` (photos
//! in a terminal) and `report.rs` (standard error).

mod captions;
mod check;
mod classes;
mod classify;
mod cluster;
mod dates;
mod embed;
mod exchange;
mod export;
mod filter;
mod grid;
mod import;
mod index;
mod indexing;
mod info;
mod inputs;
mod lettering;
mod models;
mod output;
mod page;
mod quantize;
mod quarantine;
mod query;
mod remove;
mod report;
mod rows;
mod search;
mod shapes;
mod sheet;
mod similar;
mod sixel;
mod stats;
mod store;
mod terminal;
mod verify;
mod watch;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use diptych::{
    Bundle, BundleOptions, Device, DualEncoder, EncoderOptions, Hub, HubModel, ImageOptions,
    Precisions, Towers, pipeline::PipelineOptions,
};
use report::{Fetching, Report};

/// Classify and find photos, and turn photos and texts into embeddings, with any CLIP-style model.
#[derive(Debug, Parser)]
#[command(
    name = "diptych",
    version,
    propagate_version = true,
    about,
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Name what photos show, by the labels that you give
    Classify(classify::Arguments),
    /// Turn photos and texts into unit rows of one space
    Embed(embed::Arguments),
    /// Make an index hold what folders of photos hold
    Index(index::Arguments),
    /// Find photos of an index by words, by images, by both
    Search(search::Arguments),
    /// Find photos of an index that show nearly the same, the best of each group first
    Similar(similar::Arguments),
    /// Move near-duplicates out of the way as a plan of similar says, or back again; nothing is deleted
    Quarantine(quarantine::Arguments),
    /// Group the photos of an index by what they show, and name each group
    Cluster(cluster::Arguments),
    /// Say how much an index holds
    Stats(stats::Arguments),
    /// Look whether an index is whole and its files are as they were
    Check(check::Arguments),
    /// Forget files and folders of an index; the files themselves stay as they are
    Remove(remove::Arguments),
    /// Write the rows of an index, with what they are of, to files that other programs read
    Export(export::Arguments),
    /// Take rows that diptych export or clip-retrieval wrote into an index
    Import(import::Arguments),
    /// Show what a model's files state and how it will be run
    Info(info::Arguments),
    /// List the models of hubs that lie in the cache, remove one, or name good ones to begin with
    Models(models::Arguments),
    /// Check that a model gives what its reference gives, and say where and why it does not
    Verify(verify::Arguments),
    /// Make a smaller bundle of a model, in 8 or 16 bits, and say what that costs
    Quantize(quantize::Arguments),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the man page, or that of a command
    Man {
        /// The command
        command: Option<String>,
    },
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Everywhere")]
struct Common {
    /// The model: a bundle folder, or OWNER/NAME or OWNER/NAME@REVISION of a hub, which is fetched once (a folder of that
    /// name is taken first; hf:OWNER/NAME is never a folder); IMAGE_MODEL+TEXT_MODEL, where the two towers of one space are
    /// published as two models; without it, the small model that comes with diptych
    #[arg(long, value_name = "MODEL", env = "DIPTYCH_MODEL", global = true)]
    model: Option<PathBuf>,
    /// The precision of the model's graphs, as their names end: fp32 (no ending), fp16, int8, uint8, q8 (_quantized), q4,
    /// q4f16, bnb4 and so on; or one for each tower, such as image=int8,text=fp32. Without it: fp32, otherwise fp16, or
    /// the only one there is
    #[arg(long, value_name = "WORD", env = "DIPTYCH_PRECISION", global = true)]
    precision: Option<Precisions>,
    /// Keep the first N values of each row, brought to unit length again; an index holds rows of one width. Good for
    /// models that were trained for it (Matryoshka), and said to be untried for others
    #[arg(long, value_name = "N", env = "DIPTYCH_DIM", global = true)]
    dim: Option<usize>,
    /// Put this before each text, such as "search_query: ", for models whose texts say what they are for; without it, what
    /// the model's files say, most often nothing
    #[arg(long, value_name = "TEXT", env = "DIPTYCH_PREFIX", global = true)]
    prefix: Option<String>,
    /// The language that texts are in, for a model whose tokenizer marks it: a token of NLLB's such as deu_Latn
    #[arg(long, value_name = "CODE", env = "DIPTYCH_LANGUAGE", global = true)]
    language: Option<String>,
    /// What graphs run on: cpu, cuda, tensorrt, coreml, directml, openvino, rocm or webgpu, of several GPUs one as in cuda:1;
    /// never another in its place
    #[arg(
        long,
        value_name = "DEVICE",
        env = "DIPTYCH_DEVICE",
        global = true,
        default_value = "cpu"
    )]
    device: Device,
    /// Fetch no model: take what is in the cache
    #[arg(long, global = true)]
    offline: bool,
    /// The folder that models are fetched into, in the layout that Python's programs share; without it, HF_HUB_CACHE, hub
    /// in HF_HOME, or ~/.cache/huggingface/hub
    #[arg(long, value_name = "DIR", global = true)]
    cache: Option<PathBuf>,
    /// Threads to run on; without it, as many as there are cores
    #[arg(long, value_name = "N", global = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Images or texts that run at once
    #[arg(long, value_name = "N", global = true, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    batch: u16,
    /// Print results and errors, nothing else
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Where the towers ran that the command opened, as it is said in the end.
    #[arg(skip)]
    ran_on: Rc<RefCell<BTreeSet<String>>>,
}

/// Options of commands that read images.
#[derive(Debug, Args)]
#[command(next_help_heading = "Images")]
struct ImageArguments {
    /// Leave photos as they are stored, whatever orientation their EXIF states
    #[arg(long)]
    no_exif: bool,
    /// Put transparent images on this colour (white, black, grey or #rrggbb) instead of dropping their alpha
    #[arg(long, value_name = "COLOUR", value_parser = inputs::colour)]
    background: Option<[u8; 3]>,
    /// Refuse images of more pixels than this
    #[arg(long, value_name = "N")]
    max_pixels: Option<u64>,
    /// Memory in MiB that decoding may take at once on all threads; an image that needs more is decoded alone
    #[arg(long, value_name = "MIB", default_value_t = 192)]
    decode_memory: u32,
}

/// How a command ended, when it could run at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    /// Some inputs failed, or there was nothing to work on.
    Incomplete,
}

impl Outcome {
    /// Of two things that were done.
    fn and(self, other: Self) -> Self {
        if self == Outcome::Done { other } else { self }
    }
}

/// Runs the command that the program was called with.
pub(crate) fn run() -> ExitCode {
    match parse().and_then(|(cli, arguments)| execute(cli, &arguments)) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Incomplete) => ExitCode::from(1),
        // The reader of our output had enough, as `head` does: that is no failure.
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            report::fatal(&error);
            ExitCode::from(2)
        }
    }
}

/// The parsed arguments, and the matches that know in which order they were given.
fn parse() -> Result<(Cli, clap::ArgMatches)> {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let is_command = |argument: &OsString| Cli::command().find_subcommand(argument).is_some();
    let command = arguments.iter().position(is_command);
    if let Some(place) = command.filter(|&place| arguments[place] == "search") {
        let query = arguments.split_off(place);
        arguments.extend(query::mark_unwanted(query, search_takes_value));
    }
    // clap prints help, version and usage errors itself, with exit codes 0 and 2.
    let matches = Cli::command().get_matches_from(arguments);
    Ok((Cli::from_arg_matches(&matches)?, matches))
}

/// Whether an option of `search` is followed by its value.
fn search_takes_value(name: &str) -> bool {
    let mut program = Cli::command();
    program.build();
    let search = program.find_subcommand("search");
    let mut options = search.into_iter().flat_map(clap::Command::get_arguments);
    options.any(|option| {
        let takes_next = option.get_action().takes_values() && !option.is_require_equals_set();
        option.get_long() == Some(name) && takes_next
    })
}

fn execute(cli: Cli, matches: &clap::ArgMatches) -> Result<Outcome> {
    let Cli { command, common } = cli;
    let outcome = run_command(command, &common, matches)?;
    common.say_where_it_ran();
    Ok(outcome)
}

fn run_command(command: Command, common: &Common, matches: &clap::ArgMatches) -> Result<Outcome> {
    match command {
        Command::Classify(arguments) => classify::run(&arguments, common),
        Command::Embed(arguments) => {
            let order = matches
                .subcommand_matches("embed")
                .map(embed::Order::of)
                .unwrap_or_default();
            embed::run(&arguments, common, &order)
        }
        Command::Index(arguments) => index::run(&arguments, common),
        Command::Search(arguments) => search::run(&arguments, common),
        Command::Similar(arguments) => similar::run(&arguments, common),
        Command::Quarantine(arguments) => quarantine::run(&arguments, common),
        Command::Cluster(arguments) => cluster::run(&arguments, common),
        Command::Stats(arguments) => stats::run(&arguments),
        Command::Check(arguments) => check::run(&arguments, common),
        Command::Remove(arguments) => remove::run(&arguments, common),
        Command::Export(arguments) => export::run(&arguments, common),
        Command::Import(arguments) => import::run(&arguments, common),
        Command::Info(arguments) => info::run(&arguments, common),
        Command::Models(arguments) => models::run(&arguments, common),
        Command::Verify(arguments) => verify::run(&arguments, common),
        Command::Quantize(arguments) => quantize::run(&arguments, common),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "diptych", &mut script);
            // Written here, since clap would panic when the reader has left.
            io::stdout().write_all(&script)?;
            Ok(Outcome::Done)
        }
        Command::Man { command } => man(command.as_deref()),
    }
}

fn man(name: Option<&str>) -> Result<Outcome> {
    let mut program = Cli::command();
    // Hands the options of every command on to each.
    program.build();
    let page = match name {
        None => program,
        Some(name) => match program.find_subcommand(name) {
            Some(command) => command.clone(),
            None => bail!("no command {name:?}; diptych help lists them"),
        },
    };
    clap_mangen::Man::new(page).render(&mut io::stdout())?;
    Ok(Outcome::Done)
}

/// The two models that are given as one, with `+` between them. A folder of that name comes first.
fn pair(given: &Path) -> Option<(PathBuf, PathBuf)> {
    let text = given.to_str().filter(|_| !given.exists())?;
    let (image, text) = text.split_once('+')?;
    let is_whole = !image.is_empty() && !text.is_empty();
    is_whole.then(|| (image.into(), text.into()))
}

impl Common {
    /// The model that is to be used, as far as `towers` need it; fetched where it is a hub's and not in the cache.
    fn bundle(&self, towers: Towers) -> Result<Bundle> {
        let precisions = self.precision.clone().unwrap_or_default();
        let Some(given) = &self.model else {
            return self.open_bundle(&bundled_model()?, towers, precisions);
        };
        let Some((image, text)) = pair(given) else {
            return self.open_bundle(given, towers, precisions);
        };
        // Either may be one graph, of which both precisions are asked.
        let of = |precision: &Option<String>| Precisions {
            image: precision.clone(),
            text: precision.clone(),
        };
        let image = || self.open_bundle(&image, Towers::Image, of(&precisions.image));
        let text = || self.open_bundle(&text, Towers::Text, of(&precisions.text));
        match towers {
            Towers::Image => image(),
            Towers::Text => text(),
            Towers::All => Ok(Bundle::pair(image()?, text()?)?),
        }
    }

    /// One model, a folder's or a hub's.
    fn open_bundle(&self, given: &Path, towers: Towers, precisions: Precisions) -> Result<Bundle> {
        let options = BundleOptions {
            towers,
            precisions,
            language: self.language.clone(),
            dim: self.dim,
            prefix: self.prefix.clone(),
        };
        Ok(Bundle::open_with(self.folder(given, &options)?, &options)?)
    }

    /// The folder given, or that of a hub's model.
    fn folder(&self, given: &Path, options: &BundleOptions) -> Result<PathBuf> {
        if given.exists() {
            return Ok(given.to_owned());
        }
        let model: HubModel = match given.to_string_lossy().parse() {
            Ok(model) => model,
            Err(diptych::Error::NotAHubName { problem, .. }) => bail!(
                "{}: there is no such folder, and it is no model of a hub, OWNER/NAME or OWNER/NAME@REVISION: {problem}",
                given.display()
            ),
            Err(error) => return Err(error.into()),
        };
        let mut fetching = Fetching::new(self.quiet);
        let fetched = self
            .hub()
            .fetch(&model, options, &mut |progress| fetching.show(progress));
        fetched.with_context(|| fetching.failed(&model))
    }

    fn hub(&self) -> Hub {
        let mut hub = Hub::from_env();
        hub.offline |= self.offline;
        hub.notice = self.notice();
        if let Some(cache) = &self.cache {
            hub.cache = Some(cache.clone());
        }
        hub
    }

    /// Says what is worth knowing, unless nothing is to be said.
    fn notice(&self) -> fn(&str) {
        if self.quiet { |_| () } else { report::notice }
    }

    /// The model in `bundle`, opened as `options` say.
    fn open(&self, bundle: Bundle, options: &EncoderOptions) -> Result<DualEncoder> {
        let encoder = DualEncoder::from_bundle(bundle, options)?;
        for (tower, placement) in encoder.placements() {
            match placement.on_cpu {
                0 => self.ran_on(&placement),
                _ => self.ran_on(&format_args!("{placement} ({tower} tower)")),
            }
        }
        Ok(encoder)
    }

    /// A tower that was opened ran there.
    fn ran_on(&self, place: &dyn Display) {
        self.ran_on.borrow_mut().insert(place.to_string());
    }

    /// The last line of a run in which a graph was opened.
    fn say_where_it_ran(&self) {
        let ran_on = self.ran_on.borrow();
        if !ran_on.is_empty() && !self.quiet {
            let ran_on: Vec<&str> = ran_on.iter().map(String::as_str).collect();
            report::notice(&format!("ran on {}", ran_on.join("; ")));
        }
    }

    fn encoder_options(&self, towers: Towers) -> EncoderOptions {
        let threads = usize::from(self.threads.unwrap_or(0));
        EncoderOptions {
            towers,
            threads,
            batch: self.batch.into(),
            device: self.device.clone(),
            rows: None,
            notice: self.notice(),
        }
    }

    fn pipeline_options(&self, images: &ImageArguments) -> PipelineOptions {
        let mut image = ImageOptions {
            exif: !images.no_exif,
            background: images.background,
            ..Default::default()
        };
        if let Some(max_pixels) = images.max_pixels {
            image.max_pixels = max_pixels;
        }
        PipelineOptions {
            decoders: usize::from(self.threads.unwrap_or(0)),
            memory: u64::from(images.decode_memory) << 20,
            image,
            ..Default::default()
        }
    }

    fn report(&self, total: usize, unit: &'static str) -> Report {
        Report::new(total, unit, self.quiet)
    }
}

/// Beside the program, as an archive has it; otherwise in the source tree that it was built from.
fn bundled_model() -> Result<PathBuf> {
    let program = std::env::current_exe().ok();
    let beside = program
        .as_deref()
        .and_then(Path::parent)
        .map(|folder| folder.join("onnx/tiny"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("onnx/tiny");
    match beside
        .into_iter()
        .chain([source])
        .find(|folder| folder.is_dir())
    {
        Some(folder) => Ok(folder),
        None => bail!(
            "no model: give one with --model DIR, or put the folder onnx/tiny beside the program"
        ),
    }
}
