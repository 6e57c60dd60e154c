//! Models by name: fetched from a hub into the cache that its Python programs share, and found there again.
//!
//! `name.rs` reads names, `cache.rs` knows where things lie, `client.rs` speaks to the hub, `download.rs` brings one file
//! safely into the cache. Here is decided which files those are. What was fetched is a bundle folder like any other.

mod cache;
mod client;
mod download;
mod models;
mod name;

use std::collections::BTreeSet;
use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

pub use models::{CachedModel, CachedRevision};
pub use name::HubModel;

use crate::bundle::{
    Bundle, BundleOptions, Layout, Precisions, Towers, choose, config_names, config_places,
    not_a_bundle,
};
use crate::error::{Error, Result};
use crate::{cache as own_cache, graph_file};
use cache::Repository;
use client::{Client, broken, is_out_of_reach};
use download::Download;

/// The hub that is meant where `HF_ENDPOINT` names no other.
const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// A hub of models, and the cache of what was fetched from it.
#[derive(Clone)]
pub struct Hub {
    /// The address of the hub, without a path.
    pub endpoint: String,
    /// What says who asks, for models that not everyone may have. It is sent to `endpoint` alone.
    pub token: Option<String>,
    /// The cache folder, if there is a place for one.
    pub cache: Option<PathBuf>,
    /// Whether no request is to be made.
    pub offline: bool,
    /// Told, in one line, when something is waited for.
    pub notice: fn(&str),
}

impl fmt::Debug for Hub {
    /// Leaves out the token, which must get into no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("endpoint", &client::without_user(&self.endpoint))
            .field("has_token", &self.token.is_some())
            .field("cache", &self.cache)
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

/// How far the fetching of a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The file, as the model names it.
    pub file: &'a str,
    /// Bytes that are there.
    pub done: u64,
    /// Bytes of the whole file.
    pub size: u64,
}

impl Hub {
    /// The hub that the environment describes, by the variables that its Python programs know: `HF_ENDPOINT`,
    /// `HF_TOKEN` (otherwise the file that `HF_TOKEN_PATH` names, otherwise `token` in `HF_HOME`), `HF_HUB_CACHE`
    /// (otherwise `hub` in `HF_HOME`), `HF_HUB_OFFLINE`; `DIPTYCH_OFFLINE` too. Notices go nowhere.
    pub fn from_env() -> Self {
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        let is_on =
            |value: String| ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str());
        Self {
            endpoint,
            token: text("HF_TOKEN").or_else(kept_token),
            cache: cache::default_root(),
            offline: text("HF_HUB_OFFLINE").is_some_and(is_on) || own_cache::is_offline(),
            notice: |_| (),
        }
    }

    /// The folder of a model's files, after fetching those that `options` need and the cache lacks.
    ///
    /// The cache is asked first: where it has everything, no request is made. A branch stays the commit that it was when
    /// it was first fetched, until the model is removed from the cache.
    ///
    /// Other programs may have filled the cache with a part of the model, and a config that is missing may change rows.
    /// So the hub is asked once for the list of files unless every config that is read of such a model is there. While
    /// the hub is out of reach, and offline, a model that opens without them is used; a notice names them.
    ///
    /// # Cost
    ///
    /// One request for the list of files, and two for each file that is not there.
    ///
    /// # Errors
    ///
    /// [`Error::NotInCache`] if something is missing that may not be fetched; [`Error::HubUnreachable`],
    /// [`Error::HubStatus`] and [`Error::HubBroken`] if it could not be; [`Error::NotABundle`] and
    /// [`Error::NoPrecision`] if the model has no fitting graphs; [`Error::Write`] if the cache cannot be written. What
    /// was fetched until then is kept, and never taken for whole.
    pub fn fetch(
        &self,
        model: &HubModel,
        options: &BundleOptions,
        progress: &mut dyn FnMut(&Progress<'_>),
    ) -> Result<PathBuf> {
        let repository = Repository::new(self.root()?, model);
        let commit = repository.commit(model.revision());
        let cached = match &commit {
            Some(commit) => look(&repository, commit, model, options, self.offline)?,
            None => Cached::Lacks("any of its files".to_owned()),
        };
        let cached = match (cached, self.offline) {
            (Cached::Whole(snapshot), _) => return Ok(snapshot),
            (Cached::Opens(snapshot, unknown), true) => {
                self.say_unknown(model, &unknown, &"fetching is turned off");
                return Ok(snapshot);
            }
            (Cached::Lacks(missing), true) => return Err(not_in_cache(model, missing)),
            (cached, false) => cached,
        };
        let client = Client::new(&self.endpoint, self.token.clone(), self.notice);
        match (
            listing(&client, &repository, model, commit.as_deref()),
            cached,
        ) {
            (Ok((commit, files)), _) => {
                let mut download = Download {
                    client: &client,
                    repository: &repository,
                    model,
                    commit: &commit,
                    notice: self.notice,
                    progress,
                };
                complete(&mut download, &files, options)
            }
            (Err(error), Cached::Opens(snapshot, unknown)) if is_out_of_reach(&error) => {
                self.say_unknown(model, &unknown, &error);
                Ok(snapshot)
            }
            (Err(error), _) => Err(error),
        }
    }

    /// That a model is used though the hub may have more of it.
    fn say_unknown(&self, model: &HubModel, unknown: &[&str], why: &dyn fmt::Display) {
        (self.notice)(&format!(
            "{model}: used as it is in the cache; rows may differ if the hub has {}, which could not be looked for: {why}",
            unknown.join(", "),
        ));
    }

    fn root(&self) -> Result<&Path> {
        self.cache.as_deref().ok_or(Error::NoCache)
    }
}

impl Bundle {
    /// The bundle of a hub's model, after fetching what the cache lacks of it.
    ///
    /// # Cost
    ///
    /// That of [`Hub::fetch`].
    ///
    /// # Errors
    ///
    /// Those of [`Hub::fetch`] and of [`Bundle::open_with`].
    ///
    /// # Example
    ///
    /// ```no_run
    /// use diptych::{Bundle, BundleOptions, DualEncoder, EncoderOptions, Hub};
    ///
    /// let hub = Hub::from_env();
    /// let bundle = Bundle::from_hub(&"Xenova/clip-vit-base-patch32".parse()?, &hub, &BundleOptions::default())?;
    /// let encoder = DualEncoder::from_bundle(bundle, &EncoderOptions::default())?;
    /// # Ok::<(), diptych::Error>(())
    /// ```
    pub fn from_hub(model: &HubModel, hub: &Hub, options: &BundleOptions) -> Result<Self> {
        Self::open_with(hub.fetch(model, options, &mut |_| ())?, options)
    }

    /// What people call it: `OWNER/NAME` where it lies in the cache of a hub, otherwise its folder's name.
    pub fn name(&self) -> String {
        if let Some(text) = &self.text_bundle {
            let image = Self {
                text_bundle: None,
                ..self.clone()
            };
            return format!("{}+{}", image.name(), text.name());
        }
        let path = self.path.canonicalize();
        let path = path.as_ref().unwrap_or(&self.path);
        let name = |path: &Path| Some(path.file_name()?.to_string_lossy().into_owned());
        cache::repository_of(path)
            .or_else(|| name(path))
            .unwrap_or_default()
    }
}

/// A variable that is set to something.
fn text(name: &str) -> Option<String> {
    let value = env::var(name).ok()?;
    Some(value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// The token that the hub's own program keeps after a login.
fn kept_token() -> Option<String> {
    let file = text("HF_TOKEN_PATH").map(PathBuf::from);
    let file = file.or_else(|| Some(cache::home()?.join("token")))?;
    let token = fs::read_to_string(file).ok()?;
    Some(token.trim().to_owned()).filter(|token| !token.is_empty())
}

fn not_in_cache(model: &HubModel, missing: String) -> Error {
    Error::NotInCache {
        model: model.to_string(),
        missing,
    }
}

/// The commit of a model, and the names of its files: those that were kept, otherwise the hub's.
fn listing(
    client: &Client,
    repository: &Repository,
    model: &HubModel,
    commit: Option<&str>,
) -> Result<(String, BTreeSet<String>)> {
    let kept = commit.and_then(|commit| repository.listing(commit));
    if let (Some(commit), Some(files)) = (commit, kept) {
        return Ok((commit.to_owned(), files));
    }
    let listing = client.listing(model, commit.unwrap_or(model.revision()))?;
    repository.keep_listing(&listing.commit, &listing.files);
    // What is noted already is not written again: a cache that is complete may be one that nobody may write to.
    if commit != Some(listing.commit.as_str()) {
        repository.note(model.revision(), &listing.commit)?;
    }
    Ok((listing.commit, listing.files))
}

/// Fetches what a commit's folder lacks, and gives the folder.
fn complete(
    download: &mut Download<'_>,
    files: &BTreeSet<String>,
    options: &BundleOptions,
) -> Result<PathBuf> {
    let snapshot = download.repository.snapshot(download.commit);
    loop {
        let missing = missing(&snapshot, files, download.model, options)?;
        if missing.is_empty() {
            return Ok(snapshot);
        }
        missing.iter().try_for_each(|file| download.fetch(file))?;
    }
}

/// What the cache has of a commit.
enum Cached {
    /// All that is needed, in this folder.
    Whole(PathBuf),
    /// A model that opens, without configs that the hub may have.
    Opens(PathBuf, Vec<&'static str>),
    /// Not what is named here, in words.
    Lacks(String),
}

/// Looks for a commit in the cache.
///
/// Without a list of the commit's files, what is there must do: offline if it opens; otherwise only if both towers are
/// there. Which configs the hub has beside those that are there is then not known.
fn look(
    repository: &Repository,
    commit: &str,
    model: &HubModel,
    options: &BundleOptions,
    offline: bool,
) -> Result<Cached> {
    let snapshot = repository.snapshot(commit);
    if let Some(files) = repository.listing(commit) {
        let missing = missing(&snapshot, &files, model, options)?;
        return Ok(match missing.is_empty() {
            true => Cached::Whole(snapshot),
            false => Cached::Lacks(missing.join(", ")),
        });
    }
    let mut options = options.clone();
    if !offline {
        // The hub may have the full precision where another one is here.
        let Precisions { image, text } = &mut options.precisions;
        for precision in [image, text] {
            precision.get_or_insert_with(|| "fp32".to_owned());
        }
    }
    let bundle = match Bundle::open_with(&snapshot, &options) {
        Ok(bundle) => bundle,
        Err(error) => return Ok(Cached::Lacks(format!("what it needs ({error})"))),
    };
    let has_towers = match options.towers {
        Towers::Image => bundle.image.is_some(),
        Towers::Text => bundle.text.is_some(),
        // A graph of an image tower alone is whole.
        Towers::All if bundle.layout == Layout::ImageAlone => true,
        Towers::All => offline || bundle.image.is_some() && bundle.text.is_some(),
    };
    let unknown = unknown_configs(&bundle);
    Ok(match (has_towers, unknown.is_empty()) {
        (false, _) => Cached::Lacks("a graph of a tower".to_owned()),
        (true, true) => Cached::Whole(snapshot),
        (true, false) => Cached::Opens(snapshot, unknown),
    })
}

/// The configs that a bundle of this layout may have and this one has not, nor another in their place.
fn unknown_configs(bundle: &Bundle) -> Vec<&'static str> {
    let places = config_places(bundle.layout, bundle.image.is_some(), bundle.text.is_some());
    let is_there = |name: &&str| bundle.path.join(name).is_file();
    let absent = places.iter().filter(|place| !place.iter().any(is_there));
    let mut unknown = Vec::new();
    for name in absent.copied().flatten() {
        // Texts name the first place of how images are prepared once more.
        if !unknown.contains(name) {
            unknown.push(*name);
        }
    }
    unknown
}

/// The files that are needed and not in the folder. Those that graphs name are known once the graphs are there.
fn missing(
    snapshot: &Path,
    files: &BTreeSet<String>,
    model: &HubModel,
    options: &BundleOptions,
) -> Result<Vec<String>> {
    let name = PathBuf::from(model.to_string());
    let choice = choose(&name, files, options.towers, &options.precisions)?;
    let choice =
        choice.ok_or_else(|| not_a_bundle(&name, &files.iter().cloned().collect::<Vec<_>>()))?;
    let graphs: BTreeSet<&String> = choice.image.iter().chain(&choice.text).collect();
    let configs = config_names(choice.layout, choice.image.is_some(), choice.text.is_some());
    let mut needed: Vec<String> = configs
        .into_iter()
        .filter(|name| files.contains(*name))
        .map(str::to_owned)
        .collect();
    for graph in graphs {
        let file = snapshot.join(graph);
        if file.is_file() {
            needed.extend(external(&file, graph)?);
        }
        needed.push(graph.clone());
    }
    needed.retain(|name| !snapshot.join(name).is_file());
    Ok(needed)
}

/// The data files of a graph, by their names in the repository.
fn external(file: &Path, graph: &str) -> Result<Vec<String>> {
    let folder = graph.rsplit_once('/').map_or("", |(folder, _)| folder);
    let full = |name: String| match folder {
        "" => name,
        folder => format!("{folder}/{name}"),
    };
    let names: Vec<String> = graph_file::read(file)?.external;
    match names.iter().find(|name| !name::is_path(name)) {
        Some(climbing) => Err(broken(
            graph,
            format!("its weights are in {climbing:?}, which leads out of the model's folder"),
            "do not use this model",
        )),
        None => Ok(names.into_iter().map(full).collect()),
    }
}
