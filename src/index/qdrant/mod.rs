//! An index in a collection of a Qdrant server: the only folder that knows Qdrant.
//!
//! One point for each item, so that the server can filter by what is known of the item; copies of a file have a row
//! each. What the rows were made by is metadata of the collection, and so comes into being with it. Here there is no
//! lock, and a change of many items is several requests: what was cut off is made whole by doing it again.

mod address;
mod attempts;
mod points;

use std::collections::{HashMap, HashSet};
use std::env;
use std::fmt::{self, Debug};
use std::path::PathBuf;
use std::time::Duration;

use qdrant_client::qdrant::vector_output::Vector;
use qdrant_client::qdrant::vectors_config::Config;
use qdrant_client::qdrant::{
    CollectionConfig, CountPointsBuilder, CreateCollection, CreateCollectionBuilder,
    CreateFieldIndexCollectionBuilder, DeletePointsBuilder, Distance, Filter, GetPointsBuilder,
    PayloadIncludeSelector, PointId, PointStruct, PointsIdsList, QueryPointsBuilder,
    RetrievedPoint, ScoredPoint, ScrollPointsBuilder, SearchParamsBuilder, UpsertPointsBuilder,
    Value, VectorParamsBuilder, VectorsOutput,
};
use qdrant_client::{Qdrant, QdrantError};
use tokio::runtime::{self, Runtime};
use tonic::Code;

use self::address::Address;
use self::attempts::Patience;
use super::store::Store;
use super::{Hash, Hit, Item, ItemFilter, Kind, Place, SearchOptions, Stats};
use crate::embedding::Embeddings;
use crate::error::{Error, Result};

/// Points in a request: half a megabyte of rows.
const BATCH: usize = 256;
/// Points in an answer that has no rows.
const PAGE: usize = 1024;
/// Hits that are asked for beyond the last: copies are equally good, and the server puts them in any order.
const TIES: usize = 64;
/// How long an answer may take; until the first one, whether anybody is there at all.
const TIMEOUT: Duration = Duration::from_secs(30);
const FIRST_TIMEOUT: Duration = Duration::from_secs(5);

/// Names in the collection's metadata.
const MODEL: &str = "diptych_model";
const FORMAT: &str = "diptych_format";
const VERSION: i64 = 1;

/// A collection of a Qdrant server that holds unit rows with what they are of.
pub struct Collection {
    address: Address,
    runtime: Runtime,
    client: Qdrant,
    patience: Patience,
    model: String,
    width: usize,
}

/// What copies share.
#[derive(Clone)]
struct Content {
    row: Vec<f32>,
    taken: Option<i64>,
}

impl Debug for Collection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Collection")
            .field("address", &self.address)
            .field("model", &self.model)
            .field("width", &self.width)
            .finish_non_exhaustive()
    }
}

impl Collection {
    /// A new collection at `address`, which is `qdrant://HOST:6334/COLLECTION`, or `qdrants://` where the server speaks
    /// TLS, for rows of `width` values that `model` made. With `?exact` at its end every search looks at every point.
    ///
    /// The server's key is taken from the variable `QDRANT_API_KEY`.
    ///
    /// # Errors
    ///
    /// [`Error::Address`], [`Error::Unreachable`], [`Error::KeyRefused`], [`Error::Server`]; [`Error::IndexExists`] if
    /// there is a collection of this name; [`Error::NotAnIndex`] if the server is older than 1.16, which keeps no
    /// metadata.
    pub fn create(address: &str, model: &str, width: usize) -> Result<Self> {
        let connected = Self::connect(address)?;
        let request = CreateCollectionBuilder::new(&connected.address.collection)
            .vectors_config(VectorParamsBuilder::new(width as u64, Distance::Cosine));
        let request = CreateCollection {
            metadata: metadata(model),
            ..request.build()
        };
        // Not made again: it would find what it made.
        let made = connected.client.create_collection(request);
        match connected.runtime.block_on(made) {
            Ok(_) => {}
            Err(error) if code(&error) == Some(Code::AlreadyExists) => {
                return Err(Error::IndexExists {
                    path: connected.location(),
                });
            }
            Err(error) => return Err(connected.failure(&error)),
        }
        let made = connected.look()?;
        made.index_fields()?;
        Ok(made)
    }

    /// The index in the collection at `address`, to read.
    ///
    /// # Errors
    ///
    /// Those of [`Collection::create`]; [`Error::NoIndex`] if there is no such collection; [`Error::NotAnIndex`] if
    /// something else made it.
    pub fn open(address: &str) -> Result<Self> {
        Self::connect(address)?.look()
    }

    /// The index in the collection at `address`, to write.
    ///
    /// # Errors
    ///
    /// Those of [`Collection::open`].
    pub fn open_to_write(address: &str) -> Result<Self> {
        let opened = Self::open(address)?;
        // Whoever made it may have been ended before this.
        opened.index_fields()?;
        Ok(opened)
    }

    /// A connection, over which the server has said something.
    fn connect(address: &str) -> Result<Self> {
        let address = Address::parse(address)?;
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| no_answer(&address, error))?;
        let client = |timeout| {
            Qdrant::from_url(&address.url())
                .api_key(env::var("QDRANT_API_KEY"))
                .timeout(timeout)
                // It would be printed on standard output.
                .skip_compatibility_check()
                .build()
        };
        let (first, client) = match (client(FIRST_TIMEOUT), client(TIMEOUT)) {
            (Ok(first), Ok(client)) => (first, client),
            (Err(error), _) | (_, Err(error)) => return Err(no_answer(&address, error)),
        };
        runtime
            .block_on(first.health_check())
            .map_err(|error| no_answer(&address, plain(&error)))?;
        Ok(Self {
            address,
            runtime,
            client,
            patience: Patience::default(),
            model: String::new(),
            width: 0,
        })
    }

    /// Takes up what the server says of the collection.
    fn look(mut self) -> Result<Self> {
        let answer = self.ask(async |client| {
            let name = &self.address.collection;
            client.collection_info(name).await
        })?;
        let config = answer.result.and_then(|info| info.config);
        let facts = facts(&config.unwrap_or_default());
        (self.model, self.width) = facts.map_err(|problem| self.not_an_index(problem))?;
        Ok(self)
    }

    fn index_fields(&self) -> Result<()> {
        for (field, of) in points::INDEXED {
            self.ask(async |client| {
                let request =
                    CreateFieldIndexCollectionBuilder::new(&self.address.collection, field, of);
                client.create_field_index(request.wait(true)).await
            })?;
        }
        Ok(())
    }

    /// What the server answers, asked again while a cause lasts that passes.
    fn ask<T>(&self, request: impl AsyncFn(&Qdrant) -> Result<T, QdrantError>) -> Result<T> {
        let asked = self.patience.ask(async move || request(&self.client).await);
        self.runtime
            .block_on(asked)
            .map_err(|error| self.failure(&error))
    }

    fn failure(&self, error: &QdrantError) -> Error {
        let address = self.address.to_string();
        let source = plain(error).into();
        match code(error) {
            Some(Code::Unauthenticated | Code::PermissionDenied) => {
                Error::KeyRefused { address, source }
            }
            Some(Code::NotFound) => Error::NoIndex {
                path: self.location(),
            },
            Some(Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded) => {
                no_answer(&self.address, plain(error))
            }
            Some(Code::Internal) if plain(error).starts_with("Failed to connect") => {
                no_answer(&self.address, plain(error))
            }
            _ => Error::Server { address, source },
        }
    }

    fn not_an_index(&self, problem: String) -> Error {
        Error::NotAnIndex {
            address: self.address.to_string(),
            problem,
        }
    }

    fn require_width(&self, rows: &Embeddings) -> Result<()> {
        if rows.width() == self.width {
            return Ok(());
        }
        Err(Error::Width {
            found: rows.width(),
            expected: self.width,
        })
    }

    fn upsert(&self, points: &[PointStruct]) -> Result<()> {
        for batch in points.chunks(BATCH) {
            self.ask(async |client| {
                let request = UpsertPointsBuilder::new(&self.address.collection, batch.to_vec());
                client.upsert_points(request.wait(true)).await
            })?;
        }
        Ok(())
    }

    fn count(&self, filter: &Filter) -> Result<usize> {
        let answer = self.ask(async |client| {
            let request = CountPointsBuilder::new(&self.address.collection);
            client
                .count(request.filter(filter.clone()).exact(true))
                .await
        })?;
        Ok(answer.result.unwrap_or_default().count as usize)
    }

    /// Hands on every point that `request` is of, page by page.
    fn each(
        &self,
        request: &ScrollPointsBuilder,
        mut take: impl FnMut(RetrievedPoint) -> Result<()>,
    ) -> Result<()> {
        let mut next: Option<PointId> = None;
        loop {
            let page = self.ask(async |client| {
                let request = request.clone();
                let request = match next.clone() {
                    Some(next) => request.offset(next),
                    None => request,
                };
                client.scroll(request).await
            })?;
            page.result.into_iter().try_for_each(&mut take)?;
            next = page.next_page_offset;
            if next.is_none() {
                return Ok(());
            }
        }
    }

    fn scroll(&self, filter: Filter, page: usize) -> ScrollPointsBuilder {
        ScrollPointsBuilder::new(&self.address.collection)
            .filter(filter)
            .limit(page as u32)
    }

    /// What is known of the content of items, by its hash.
    fn content_of(&self, items: &[Item]) -> Result<HashMap<Hash, Content>> {
        let hashes = points::of_hashes(items.iter().map(|item| &item.hash));
        let request = self
            .scroll(Filter::must([hashes]), BATCH)
            .with_payload(true)
            .with_vectors(true);
        let mut content = HashMap::new();
        self.each(&request, |point| {
            let item = self.item_of(&point.payload)?;
            let row = self.row_of(point.vectors.as_ref())?;
            let taken = item.taken;
            content.insert(item.hash, Content { row, taken });
            Ok(())
        })?;
        Ok(content)
    }

    fn item_of(&self, payload: &points::Payload) -> Result<Item> {
        points::item(payload).map_err(|problem| self.not_an_index(problem))
    }

    fn row_of(&self, vectors: Option<&VectorsOutput>) -> Result<Vec<f32>> {
        match vectors.and_then(VectorsOutput::get_vector) {
            Some(Vector::Dense(row)) if row.data.len() == self.width => Ok(row.data),
            _ => Err(self.not_an_index("a point without a row".to_owned())),
        }
    }

    fn hit(&self, point: &ScoredPoint) -> Result<Hit> {
        Ok(Hit {
            item: self.item_of(&point.payload)?,
            score: point.score.clamp(-1.0, 1.0),
            rank: 0,
        })
    }

    /// The best `count` hits, in the server's order.
    fn nearest(&self, query: &[f32], count: usize, options: &SearchOptions) -> Result<Vec<Hit>> {
        let request = self.query(query, count, options);
        let answer = self.ask(async |client| client.query(request.clone()).await)?;
        answer.result.iter().map(|point| self.hit(point)).collect()
    }

    fn query(&self, query: &[f32], limit: usize, options: &SearchOptions) -> QueryPointsBuilder {
        let params = SearchParamsBuilder::default().exact(self.address.is_exact);
        let request = QueryPointsBuilder::new(&self.address.collection)
            .query(query.to_vec())
            .filter(points::filter(&options.filter))
            .params(params)
            .limit(limit as u64)
            .with_payload(true);
        match options.min_score {
            // There only what lies above the threshold is let through.
            Some(least) => request.score_threshold(least.next_down()),
            None => request,
        }
    }
}

impl Store for Collection {
    fn location(&self) -> PathBuf {
        self.address.to_string().into()
    }

    fn model(&self) -> String {
        self.model.clone()
    }

    fn width(&self) -> usize {
        self.width
    }

    fn knows(&self, hash: &Hash) -> Result<bool> {
        let of_hash = points::of_hashes([hash].into_iter());
        Ok(self.count(&Filter::must([of_hash]))? > 0)
    }

    fn sizes(&self) -> Result<HashSet<u64>> {
        let only_size = vec![points::SIZE.to_owned()];
        let request = self.scroll(Filter::default(), PAGE);
        let mut sizes = HashSet::new();
        self.each(
            &request.with_payload(PayloadIncludeSelector { fields: only_size }),
            |point| {
                let size = points::size(&point.payload);
                sizes.insert(size.map_err(|problem| self.not_an_index(problem))?);
                Ok(())
            },
        )?;
        Ok(sizes)
    }

    fn add(&mut self, items: &[Item], rows: &Embeddings) -> Result<()> {
        assert_eq!(items.len(), rows.len(), "a row for each item");
        self.require_width(rows)?;
        let points: Vec<PointStruct> = (0..items.len())
            .map(|at| point(&items[at], rows.row(at).to_vec()))
            .collect();
        self.upsert(&points)
    }

    fn add_copies(&mut self, items: &[Item]) -> Result<()> {
        for batch in items.chunks(BATCH) {
            let content = self.content_of(batch)?;
            let copy = |item: &Item| match content.get(&item.hash).cloned() {
                Some(Content { row, taken }) => Ok(point(
                    &Item {
                        taken,
                        ..item.clone()
                    },
                    row,
                )),
                None => Err(self.vanished(item)),
            };
            let points: Result<Vec<PointStruct>> = batch.iter().map(copy).collect();
            self.upsert(&points?)?;
        }
        Ok(())
    }

    fn remove(&mut self, places: &[Place]) -> Result<()> {
        for batch in places.chunks(PAGE) {
            let ids: Vec<PointId> = batch.iter().map(|place| points::id(place).into()).collect();
            self.ask(async |client| {
                let request = DeletePointsBuilder::new(&self.address.collection)
                    .points(PointsIdsList { ids: ids.clone() });
                client.delete_points(request.wait(true)).await
            })?;
        }
        Ok(())
    }

    fn search(&self, query: &Embeddings, options: &SearchOptions) -> Result<Vec<Hit>> {
        assert_eq!(query.len(), 1, "one row to search for");
        self.require_width(query)?;
        let last = match options.limit {
            0 => usize::MAX,
            limit => options.offset.saturating_add(limit),
        };
        let last = match last {
            // The server makes room for as many as it is asked for.
            PAGE.. => last.min(self.count(&points::filter(&options.filter))?),
            _ => last,
        };
        let mut asked = last + TIES;
        loop {
            let hits = self.nearest(query.row(0), asked, options)?;
            if hits.len() < asked || !ends_amid_equals(&hits, last) {
                return Ok(ranked(hits, last, options));
            }
            asked *= 2;
        }
    }

    fn has_images(&self) -> Result<bool> {
        let count = |kind| self.count(&Filter::must([points::of_kind(kind)]));
        Ok(count(Kind::Image)? > 0 || count(Kind::Text)? == 0)
    }

    fn items(&self, filter: &ItemFilter) -> Result<Vec<Item>> {
        let request = self.scroll(points::filter(filter), PAGE).with_payload(true);
        let mut items = Vec::new();
        self.each(&request, |point| {
            items.push(self.item_of(&point.payload)?);
            Ok(())
        })?;
        items.sort_by(|a, b| a.place.cmp(&b.place));
        Ok(items)
    }

    fn at(&self, place: &Place) -> Result<Option<Item>> {
        let ids: Vec<PointId> = vec![points::id(place).into()];
        let answer = self.ask(async |client| {
            let request = GetPointsBuilder::new(&self.address.collection, ids.clone());
            client.get_points(request.with_payload(true)).await
        })?;
        let point = answer.result.first();
        point.map(|point| self.item_of(&point.payload)).transpose()
    }

    /// The bytes are the server's to know: 0.
    fn stats(&self) -> Result<Stats> {
        let count = |kind| self.count(&Filter::must([points::of_kind(kind)]));
        let (images, texts) = (count(Kind::Image)?, count(Kind::Text)?);
        Ok(Stats {
            images,
            texts,
            rows: images + texts,
            freed: 0,
            width: self.width,
            model: self.model.clone(),
            bytes: 0,
        })
    }
}

impl Collection {
    /// Another program may write at the same time.
    fn vanished(&self, item: &Item) -> Error {
        let path = item.place.path();
        Error::Server {
            address: self.address.to_string(),
            source: format!(
                "the row of {} is gone: something else writes to the collection",
                path.display()
            )
            .into(),
        }
    }
}

fn point(item: &Item, row: Vec<f32>) -> PointStruct {
    PointStruct::new(points::id(&item.place), row, points::payload(item))
}

/// Whether more hits may follow that are as good as the last one that counts.
fn ends_amid_equals(hits: &[Hit], last: usize) -> bool {
    let counts = last.checked_sub(1).and_then(|at| hits.get(at));
    counts.is_some_and(|hit| hits.last().is_some_and(|end| end.score == hit.score))
}

/// Those up to the `last`, best first, equal ones by place, numbered.
fn ranked(mut hits: Vec<Hit>, last: usize, options: &SearchOptions) -> Vec<Hit> {
    hits.retain(|hit| options.min_score.is_none_or(|least| hit.score >= least));
    hits.sort_by(|a, b| {
        let by_score = b.score.total_cmp(&a.score);
        by_score.then_with(|| a.item.place.cmp(&b.item.place))
    });
    hits.truncate(last);
    let mut hits = hits.split_off(options.offset.min(hits.len()));
    for (hit, rank) in hits.iter_mut().zip(options.offset + 1..) {
        hit.rank = rank;
    }
    hits
}

fn metadata(model: &str) -> HashMap<String, Value> {
    [(MODEL, Value::from(model)), (FORMAT, VERSION.into())]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
}

/// Model and width, or why the collection is no index.
fn facts(config: &CollectionConfig) -> Result<(String, usize), String> {
    let (Some(model), Some(format)) = (config.metadata.get(MODEL), config.metadata.get(FORMAT))
    else {
        return Err(format!(
            "its metadata has no {MODEL} (a server before 1.16 keeps none)"
        ));
    };
    if format != &VERSION.into() {
        return Err(format!(
            "its metadata states a {FORMAT} that is not {VERSION}"
        ));
    }
    let params = config.params.as_ref();
    let vectors = params.and_then(|params| params.vectors_config.as_ref()?.config.as_ref());
    match (vectors, model.as_str()) {
        (Some(Config::Params(vectors)), Some(model)) if vectors.distance() == Distance::Cosine => {
            Ok((model.to_owned(), vectors.size as usize))
        }
        _ => Err("its rows are not compared by their cosine".to_owned()),
    }
}

fn no_answer(address: &Address, source: impl Into<crate::error::Source>) -> Error {
    Error::Unreachable {
        address: address.to_string(),
        server: address.server(),
        source: source.into(),
    }
}

fn code(error: &QdrantError) -> Option<Code> {
    match error {
        QdrantError::ResponseError { status }
        | QdrantError::ResourceExhaustedError { status, .. } => Some(status.code()),
        _ => None,
    }
}

/// What went wrong, without the answer's headers.
fn plain(error: &QdrantError) -> String {
    match error {
        QdrantError::ResponseError { status }
        | QdrantError::ResourceExhaustedError { status, .. } => match status.message() {
            "" => status.code().description().to_owned(),
            message => message.to_owned(),
        },
        other => other.to_string(),
    }
}
