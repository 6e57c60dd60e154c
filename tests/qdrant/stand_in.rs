//! A stand-in for a Qdrant server, in memory: what diptych asks for and no more, over real gRPC.
//!
//! It proves what goes over the wire and how faults are met. That a real server means the same by it, only the contract
//! test against a real one proves.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use qdrant_client::qdrant::collections_server::{Collections, CollectionsServer};
use qdrant_client::qdrant::condition::ConditionOneOf;
use qdrant_client::qdrant::r#match::MatchValue;
use qdrant_client::qdrant::point_id::PointIdOptions;
use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::points_server::{Points, PointsServer};
use qdrant_client::qdrant::qdrant_server::{Qdrant, QdrantServer};
use qdrant_client::qdrant::value::Kind;
use qdrant_client::qdrant::{
    ChangeAliases, ClearPayloadPoints, CollectionClusterInfoRequest, CollectionClusterInfoResponse,
    CollectionConfig, CollectionExistsRequest, CollectionExistsResponse, CollectionInfo,
    CollectionOperationResponse, CollectionParams, Condition, CountPoints, CountResponse,
    CountResult, CreateCollection, CreateFieldIndexCollection, CreateShardKeyRequest,
    CreateShardKeyResponse, CreateVectorNameRequest, DeleteCollection, DeleteFieldIndexCollection,
    DeletePayloadPoints, DeletePointVectors, DeletePoints, DeleteShardKeyRequest,
    DeleteShardKeyResponse, DeleteVectorNameRequest, DenseVector, DiscoverBatchPoints,
    DiscoverBatchResponse, DiscoverPoints, DiscoverResponse, FacetCounts, FacetResponse,
    FieldCondition, Filter, GetCollectionInfoRequest, GetCollectionInfoResponse, GetPoints,
    GetResponse, HealthCheckReply, HealthCheckRequest, ListAliasesRequest, ListAliasesResponse,
    ListCollectionAliasesRequest, ListCollectionsRequest, ListCollectionsResponse,
    ListShardKeysRequest, ListShardKeysResponse, PointId, PointStruct, PointsOperationResponse,
    QueryBatchPoints, QueryBatchResponse, QueryGroupsResponse, QueryPointGroups, QueryPoints,
    QueryResponse, Range, RecommendBatchPoints, RecommendBatchResponse, RecommendGroupsResponse,
    RecommendPointGroups, RecommendPoints, RecommendResponse, RetrievedPoint, ScoredPoint,
    ScrollPoints, ScrollResponse, SearchBatchPoints, SearchBatchResponse, SearchGroupsResponse,
    SearchMatrixOffsetsResponse, SearchMatrixPairsResponse, SearchMatrixPoints, SearchPointGroups,
    SearchPoints, SearchResponse, SetPayloadPoints, UpdateBatchPoints, UpdateBatchResponse,
    UpdateCollection, UpdateCollectionClusterSetupRequest, UpdateCollectionClusterSetupResponse,
    UpdatePointVectors, UpdateResult, UpsertPoints, Value, VectorOutput, VectorsOutput, query,
    vector_input, vector_output, vectors, vectors_output,
};
use tokio::runtime::{self, Runtime};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// A server on a port of its own, until it is dropped.
pub(crate) struct StandIn {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
    runtime: Option<Runtime>,
}

#[derive(Default)]
struct State {
    collections: BTreeMap<String, Held>,
    /// What the next calls of a method are answered with, instead of being done.
    faults: HashMap<&'static str, VecDeque<Status>>,
    calls: HashMap<&'static str, usize>,
    /// The key that every request must have.
    key: Option<String>,
    /// As servers before 1.16.
    forgets_metadata: bool,
}

#[derive(Default)]
struct Held {
    config: CollectionConfig,
    indexed: Vec<String>,
    points: BTreeMap<String, PointStruct>,
    largest_upsert: usize,
}

impl StandIn {
    pub(crate) fn start() -> Self {
        Self::start_at(0)
    }

    pub(crate) fn start_at(port: u16) -> Self {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let service = Service(Arc::clone(&state));
        let port = runtime.block_on(async {
            let incoming = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
            let port = incoming.local_addr().unwrap().port();
            let server = Server::builder()
                .add_service(QdrantServer::new(service.clone()))
                .add_service(CollectionsServer::new(service.clone()))
                .add_service(PointsServer::new(service))
                .serve_with_incoming(incoming);
            tokio::spawn(server);
            port
        });
        Self {
            port,
            state,
            runtime: Some(runtime),
        }
    }

    pub(crate) fn address(&self, collection: &str) -> String {
        format!("qdrant://127.0.0.1:{}/{collection}", self.port)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers the next calls of `method` with these, one each.
    pub(crate) fn fail(&self, method: &'static str, faults: impl IntoIterator<Item = Status>) {
        let mut state = self.state();
        state.faults.entry(method).or_default().extend(faults);
    }

    /// How often `method` was called.
    pub(crate) fn calls(&self, method: &str) -> usize {
        self.state().calls.get(method).copied().unwrap_or_default()
    }

    pub(crate) fn require_key(&self, key: &str) {
        self.state().key = Some(key.to_owned());
    }

    pub(crate) fn forget_metadata(&self) {
        self.state().forgets_metadata = true;
    }

    pub(crate) fn largest_upsert(&self, collection: &str) -> usize {
        self.state().collections[collection].largest_upsert
    }

    pub(crate) fn indexed(&self, collection: &str) -> Vec<String> {
        self.state().collections[collection].indexed.clone()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[derive(Clone)]
struct Service(Arc<Mutex<State>>);

type Answer<T> = Result<Response<T>, Status>;

impl Service {
    /// The state, unless the call is to fail.
    fn enter<T>(
        &self,
        method: &'static str,
        request: &Request<T>,
    ) -> Result<MutexGuard<'_, State>, Status> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state.calls.entry(method).or_default() += 1;
        let given = request.metadata().get("api-key");
        let given = given.and_then(|key| key.to_str().ok());
        if state.key.is_some() && state.key.as_deref() != given {
            return Err(Status::unauthenticated("Must provide an API key"));
        }
        match state.faults.get_mut(method).and_then(VecDeque::pop_front) {
            Some(fault) => Err(fault),
            None => Ok(state),
        }
    }
}

impl State {
    fn held(&mut self, collection: &str) -> Result<&mut Held, Status> {
        let missing = || Status::not_found(format!("Collection `{collection}` doesn't exist!"));
        self.collections.get_mut(collection).ok_or_else(missing)
    }
}

impl Held {
    /// The points that a filter lets through. Only what has an index may be asked for, as a careful server has it.
    fn passing(&self, filter: Option<&Filter>) -> Result<Vec<&PointStruct>, Status> {
        let filter = filter.cloned().unwrap_or_default();
        for field in fields(&filter) {
            if !self.indexed.contains(&field) {
                return Err(Status::invalid_argument(format!("no index of {field}")));
            }
        }
        let passes = |point: &&PointStruct| passes(&filter, &point.payload);
        Ok(self.points.values().filter(passes).collect())
    }
}

fn fields(filter: &Filter) -> Vec<String> {
    let all = filter.must.iter().chain(&filter.must_not);
    let of = |condition: &Condition| match condition.condition_one_of.as_ref() {
        Some(ConditionOneOf::Field(field)) => vec![field.key.clone()],
        Some(ConditionOneOf::Filter(filter)) => fields(filter),
        _ => Vec::new(),
    };
    all.chain(&filter.should).flat_map(of).collect()
}

fn passes(filter: &Filter, payload: &HashMap<String, Value>) -> bool {
    let holds = |condition: &Condition| match condition.condition_one_of.as_ref() {
        Some(ConditionOneOf::Filter(filter)) => passes(filter, payload),
        Some(ConditionOneOf::Field(field)) => field_holds(field, payload),
        other => panic!("{other:?} is not known here"),
    };
    filter.must.iter().all(holds)
        && !filter.must_not.iter().any(holds)
        && (filter.should.is_empty() || filter.should.iter().any(holds))
}

/// A list holds if any of its values does.
fn field_holds(field: &FieldCondition, payload: &HashMap<String, Value>) -> bool {
    let values = match payload
        .get(&field.key)
        .and_then(|value| value.kind.as_ref())
    {
        Some(Kind::ListValue(list)) => list.values.iter().flat_map(|value| &value.kind).collect(),
        kind => Vec::from_iter(kind),
    };
    values
        .into_iter()
        .any(|value| match (&field.r#match, &field.range) {
            (Some(wanted), None) => is_match(wanted.match_value.as_ref(), value),
            (None, Some(range)) => is_in(range, value),
            other => panic!("{other:?} is not known here"),
        })
}

fn is_match(wanted: Option<&MatchValue>, value: &Kind) -> bool {
    match (wanted, value) {
        (Some(MatchValue::Keyword(wanted)), Kind::StringValue(text)) => wanted == text,
        (Some(MatchValue::Keywords(wanted)), Kind::StringValue(text)) => {
            wanted.strings.contains(text)
        }
        (Some(MatchValue::Integer(wanted)), Kind::IntegerValue(number)) => wanted == number,
        _ => false,
    }
}

fn is_in(range: &Range, value: &Kind) -> bool {
    let Kind::IntegerValue(number) = value else {
        return false;
    };
    let number = *number as f64;
    range.lt.is_none_or(|end| number < end)
        && range.gt.is_none_or(|start| number > start)
        && range.gte.is_none_or(|start| number >= start)
        && range.lte.is_none_or(|end| number <= end)
}

fn uuid(id: Option<&PointId>) -> String {
    match id.and_then(|id| id.point_id_options.as_ref()) {
        Some(PointIdOptions::Uuid(uuid)) => uuid.clone(),
        other => panic!("{other:?} is no id of ours"),
    }
}

fn row(point: &PointStruct) -> Vec<f32> {
    let options = point
        .vectors
        .as_ref()
        .and_then(|all| all.vectors_options.as_ref());
    let Some(vectors::VectorsOptions::Vector(vector)) = options else {
        panic!("a point without one row");
    };
    match &vector.vector {
        Some(qdrant_client::qdrant::vector::Vector::Dense(dense)) => dense.data.clone(),
        #[expect(deprecated, reason = "where the client puts a plain row")]
        None => vector.data.clone(),
        other => panic!("{other:?} is no row"),
    }
}

fn unit(row: &[f32]) -> Vec<f32> {
    let length = row.iter().map(|value| value * value).sum::<f32>().sqrt();
    row.iter().map(|value| value / length).collect()
}

fn retrieved(point: &PointStruct) -> RetrievedPoint {
    let vector = VectorOutput {
        vector: Some(vector_output::Vector::Dense(DenseVector {
            data: unit(&row(point)),
        })),
        ..VectorOutput::default()
    };
    RetrievedPoint {
        id: point.id.clone(),
        payload: point.payload.clone(),
        vectors: Some(VectorsOutput {
            vectors_options: Some(vectors_output::VectorsOptions::Vector(vector)),
        }),
        ..RetrievedPoint::default()
    }
}

fn wanted_row(request: &QueryPoints) -> Vec<f32> {
    let query = request
        .query
        .as_ref()
        .and_then(|query| query.variant.as_ref());
    match query {
        Some(query::Variant::Nearest(input)) => match &input.variant {
            Some(vector_input::Variant::Dense(dense)) => unit(&dense.data),
            other => panic!("{other:?} is not known here"),
        },
        other => panic!("{other:?} is not known here"),
    }
}

fn done() -> Answer<PointsOperationResponse> {
    Ok(Response::new(PointsOperationResponse {
        result: Some(UpdateResult::default()),
        ..PointsOperationResponse::default()
    }))
}

fn changed() -> Answer<CollectionOperationResponse> {
    Ok(Response::new(CollectionOperationResponse {
        result: true,
        time: 0.0,
    }))
}

/// Methods that nobody asks for, as the attribute beside them would write them.
macro_rules! absent {
    ($($name:ident($asked:ty) -> $answer:ty;)*) => {
        $(
            fn $name<'life, 'async_trait>(
                &'life self,
                _: Request<$asked>,
            ) -> Pin<Box<dyn Future<Output = Answer<$answer>> + Send + 'async_trait>>
            where
                'life: 'async_trait,
                Self: 'async_trait,
            {
                Box::pin(async { Err(Status::unimplemented(stringify!($name))) })
            }
        )*
    };
}

#[tonic::async_trait]
impl Qdrant for Service {
    async fn health_check(&self, _: Request<HealthCheckRequest>) -> Answer<HealthCheckReply> {
        Ok(Response::new(HealthCheckReply::default()))
    }
}

#[tonic::async_trait]
impl Collections for Service {
    async fn create(
        &self,
        request: Request<CreateCollection>,
    ) -> Answer<CollectionOperationResponse> {
        let mut state = self.enter("create", &request)?;
        let asked = request.into_inner();
        if state.collections.contains_key(&asked.collection_name) {
            return Err(Status::already_exists("Collection already exists!"));
        }
        let config = CollectionConfig {
            params: Some(CollectionParams {
                vectors_config: asked.vectors_config,
                ..CollectionParams::default()
            }),
            metadata: match state.forgets_metadata {
                true => HashMap::new(),
                false => asked.metadata,
            },
            ..CollectionConfig::default()
        };
        let held = Held {
            config,
            ..Held::default()
        };
        state.collections.insert(asked.collection_name, held);
        changed()
    }

    async fn get(
        &self,
        request: Request<GetCollectionInfoRequest>,
    ) -> Answer<GetCollectionInfoResponse> {
        let mut state = self.enter("info", &request)?;
        let held = state.held(&request.get_ref().collection_name)?;
        Ok(Response::new(GetCollectionInfoResponse {
            result: Some(CollectionInfo {
                config: Some(held.config.clone()),
                ..CollectionInfo::default()
            }),
            time: 0.0,
        }))
    }

    async fn delete(
        &self,
        request: Request<DeleteCollection>,
    ) -> Answer<CollectionOperationResponse> {
        let mut state = self.enter("drop", &request)?;
        state.collections.remove(&request.get_ref().collection_name);
        changed()
    }

    absent! {
        collection_exists(CollectionExistsRequest) -> CollectionExistsResponse;
        list(ListCollectionsRequest) -> ListCollectionsResponse;
        update(UpdateCollection) -> CollectionOperationResponse;
        update_aliases(ChangeAliases) -> CollectionOperationResponse;
        list_collection_aliases(ListCollectionAliasesRequest) -> ListAliasesResponse;
        list_aliases(ListAliasesRequest) -> ListAliasesResponse;
        collection_cluster_info(CollectionClusterInfoRequest) -> CollectionClusterInfoResponse;
        update_collection_cluster_setup(UpdateCollectionClusterSetupRequest)
            -> UpdateCollectionClusterSetupResponse;
        create_shard_key(CreateShardKeyRequest) -> CreateShardKeyResponse;
        delete_shard_key(DeleteShardKeyRequest) -> DeleteShardKeyResponse;
        list_shard_keys(ListShardKeysRequest) -> ListShardKeysResponse;
    }
}

#[tonic::async_trait]
impl Points for Service {
    async fn upsert(&self, request: Request<UpsertPoints>) -> Answer<PointsOperationResponse> {
        let mut state = self.enter("upsert", &request)?;
        let asked = request.into_inner();
        let held = state.held(&asked.collection_name)?;
        held.largest_upsert = held.largest_upsert.max(asked.points.len());
        for point in asked.points {
            held.points.insert(uuid(point.id.as_ref()), point);
        }
        done()
    }

    async fn delete(&self, request: Request<DeletePoints>) -> Answer<PointsOperationResponse> {
        let mut state = self.enter("delete", &request)?;
        let asked = request.into_inner();
        let held = state.held(&asked.collection_name)?;
        let selected = asked
            .points
            .and_then(|points| points.points_selector_one_of);
        let Some(PointsSelectorOneOf::Points(list)) = selected else {
            panic!("{selected:?} is not known here");
        };
        for id in &list.ids {
            held.points.remove(&uuid(Some(id)));
        }
        done()
    }

    async fn get(&self, request: Request<GetPoints>) -> Answer<GetResponse> {
        let mut state = self.enter("get", &request)?;
        let asked = request.into_inner();
        let held = state.held(&asked.collection_name)?;
        let ids = asked.ids.iter().map(|id| uuid(Some(id)));
        let points = ids.filter_map(|id| held.points.get(&id)).map(retrieved);
        Ok(Response::new(GetResponse {
            result: points.collect(),
            ..GetResponse::default()
        }))
    }

    async fn create_field_index(
        &self,
        request: Request<CreateFieldIndexCollection>,
    ) -> Answer<PointsOperationResponse> {
        let mut state = self.enter("index", &request)?;
        let asked = request.into_inner();
        let held = state.held(&asked.collection_name)?;
        if !held.indexed.contains(&asked.field_name) {
            held.indexed.push(asked.field_name);
        }
        done()
    }

    /// By id, from the offset on.
    async fn scroll(&self, request: Request<ScrollPoints>) -> Answer<ScrollResponse> {
        let mut state = self.enter("scroll", &request)?;
        let asked = request.into_inner();
        let held = state.held(&asked.collection_name)?;
        let first = asked.offset.as_ref().map(|id| uuid(Some(id)));
        let mut points = held.passing(asked.filter.as_ref())?;
        points.retain(|point| first.as_ref() <= Some(&uuid(point.id.as_ref())));
        let limit = asked.limit.unwrap_or(10) as usize;
        Ok(Response::new(ScrollResponse {
            next_page_offset: points.get(limit).and_then(|point| point.id.clone()),
            result: points.into_iter().take(limit).map(retrieved).collect(),
            ..ScrollResponse::default()
        }))
    }

    async fn count(&self, request: Request<CountPoints>) -> Answer<CountResponse> {
        let mut state = self.enter("count", &request)?;
        let asked = request.into_inner();
        let held = state.held(&asked.collection_name)?;
        let count = held.passing(asked.filter.as_ref())?.len() as u64;
        Ok(Response::new(CountResponse {
            result: Some(CountResult { count }),
            ..CountResponse::default()
        }))
    }

    async fn query(&self, request: Request<QueryPoints>) -> Answer<QueryResponse> {
        let mut state = self.enter("query", &request)?;
        let asked = request.into_inner();
        let held = state.held(&asked.collection_name)?;
        let query = wanted_row(&asked);
        let score = |point: &&PointStruct| -> f32 {
            let row = unit(&row(point));
            row.iter().zip(&query).map(|(a, b)| a * b).sum()
        };
        let points = held.passing(asked.filter.as_ref())?;
        let mut hits: Vec<ScoredPoint> = points
            .iter()
            .map(|point| ScoredPoint {
                id: point.id.clone(),
                payload: point.payload.clone(),
                score: score(point),
                ..ScoredPoint::default()
            })
            .filter(|hit| asked.score_threshold.is_none_or(|least| hit.score > least))
            .collect();
        hits.sort_by(|a, b| b.score.total_cmp(&a.score));
        let offset = asked.offset.unwrap_or(0) as usize;
        let limit = asked.limit.unwrap_or(10) as usize;
        Ok(Response::new(QueryResponse {
            result: hits.into_iter().skip(offset).take(limit).collect(),
            ..QueryResponse::default()
        }))
    }

    absent! {
        update_vectors(UpdatePointVectors) -> PointsOperationResponse;
        delete_vectors(DeletePointVectors) -> PointsOperationResponse;
        set_payload(SetPayloadPoints) -> PointsOperationResponse;
        overwrite_payload(SetPayloadPoints) -> PointsOperationResponse;
        delete_payload(DeletePayloadPoints) -> PointsOperationResponse;
        clear_payload(ClearPayloadPoints) -> PointsOperationResponse;
        delete_field_index(DeleteFieldIndexCollection) -> PointsOperationResponse;
        create_vector_name(CreateVectorNameRequest) -> PointsOperationResponse;
        delete_vector_name(DeleteVectorNameRequest) -> PointsOperationResponse;
        search(SearchPoints) -> SearchResponse;
        search_batch(SearchBatchPoints) -> SearchBatchResponse;
        search_groups(SearchPointGroups) -> SearchGroupsResponse;
        recommend(RecommendPoints) -> RecommendResponse;
        recommend_batch(RecommendBatchPoints) -> RecommendBatchResponse;
        recommend_groups(RecommendPointGroups) -> RecommendGroupsResponse;
        discover(DiscoverPoints) -> DiscoverResponse;
        discover_batch(DiscoverBatchPoints) -> DiscoverBatchResponse;
        update_batch(UpdateBatchPoints) -> UpdateBatchResponse;
        query_batch(QueryBatchPoints) -> QueryBatchResponse;
        query_groups(QueryPointGroups) -> QueryGroupsResponse;
        facet(FacetCounts) -> FacetResponse;
        search_matrix_pairs(SearchMatrixPoints) -> SearchMatrixPairsResponse;
        search_matrix_offsets(SearchMatrixPoints) -> SearchMatrixOffsetsResponse;
    }
}
