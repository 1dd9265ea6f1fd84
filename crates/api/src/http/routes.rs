//! A router that lists its routes, so that a test can compare them with the rules.

use std::future::Future;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::handler::Handler;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{MethodFilter, on};
use axum::{Extension, Router};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sortie_serving::{empty_is_object, json_response, read_body};
use sortie_wire::json;

use crate::auth::Caller;
use crate::error::{ApiError, Form};
use crate::params::path_param;
use crate::state::Api;

/// Routes, and the list of them.
#[derive(Default)]
pub(crate) struct Routes {
    router: Router<Api>,
    listed: Vec<String>,
}

impl Routes {
    /// The routes as `METHOD /path`.
    pub(crate) fn listed(&self) -> &[String] {
        &self.listed
    }

    pub(crate) fn into_router(self) -> Router<Api> {
        self.router
    }

    /// These routes and those of `other`.
    pub(crate) fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.listed.extend(other.listed);
        self
    }

    pub(crate) fn get<H: Handler<T, Api>, T: 'static>(self, path: &str, handler: H) -> Self {
        self.on("GET", MethodFilter::GET, path, handler)
    }

    pub(crate) fn post<H: Handler<T, Api>, T: 'static>(self, path: &str, handler: H) -> Self {
        self.on("POST", MethodFilter::POST, path, handler)
    }

    pub(crate) fn put<H: Handler<T, Api>, T: 'static>(self, path: &str, handler: H) -> Self {
        self.on("PUT", MethodFilter::PUT, path, handler)
    }

    pub(crate) fn delete<H: Handler<T, Api>, T: 'static>(self, path: &str, handler: H) -> Self {
        self.on("DELETE", MethodFilter::DELETE, path, handler)
    }

    fn on<H: Handler<T, Api>, T: 'static>(
        mut self,
        method: &str,
        filter: MethodFilter,
        path: &str,
        handler: H,
    ) -> Self {
        self.router = self.router.route(path, on(filter, handler));
        self.listed.push(format!("{method} {path}"));
        self
    }

    /// A Catena call whose message is the body.
    pub(crate) fn call<Req, Res, Fut>(self, path: &str, call: fn(Api, Req) -> Fut) -> Self
    where
        Req: DeserializeOwned + Send + 'static,
        Res: Serialize + 'static,
        Fut: Future<Output = Result<Res, ApiError>> + Send + 'static,
    {
        self.post(path, move |State(api): State<Api>, request: Request| async move {
            let result = async {
                let body = read_body(request, &api.options.limits.serving).await?;
                call(api, json::decode(empty_is_object(&body))?).await
            };
            answer(result.await)
        })
    }

    /// The same for a call that depends on the caller.
    pub(crate) fn call_as<Req, Res, Fut>(self, path: &str, call: fn(Api, Caller, Req) -> Fut) -> Self
    where
        Req: DeserializeOwned + Send + 'static,
        Res: Serialize + 'static,
        Fut: Future<Output = Result<Res, ApiError>> + Send + 'static,
    {
        let handler = move |State(api): State<Api>,
                            Extension(caller): Extension<Caller>,
                            request: Request| async move {
            let result = async {
                let body = read_body(request, &api.options.limits.serving).await?;
                call(api, caller, json::decode(empty_is_object(&body))?).await
            };
            answer(result.await)
        };
        self.post(path, handler)
    }

    /// A Catena call without parameters.
    pub(crate) fn ask<Req, Res, Fut>(self, path: &str, call: fn(Api, Req) -> Fut) -> Self
    where
        Req: Default + Send + 'static,
        Res: Serialize + 'static,
        Fut: Future<Output = Result<Res, ApiError>> + Send + 'static,
    {
        self.get(path, move |State(api): State<Api>| async move { answer(call(api, Req::default()).await) })
    }

    /// A Catena call about the one object that the path names.
    pub(crate) fn about<Req, Res, Fut>(
        self,
        (method, filter): (&str, MethodFilter),
        (path, param): (&str, &'static str),
        name: fn(String) -> Req,
        call: fn(Api, Caller, Req) -> Fut,
    ) -> Self
    where
        Req: Send + 'static,
        Res: Serialize + 'static,
        Fut: Future<Output = Result<Res, ApiError>> + Send + 'static,
    {
        type Id = Result<Path<String>, PathRejection>;
        let handler = move |State(api): State<Api>, Extension(caller): Extension<Caller>, id: Id| async move {
            match path_param(param, id) {
                Ok(id) => answer(call(api, caller, name(id)).await),
                Err(error) => error.respond(Form::Catena),
            }
        };
        self.on(method, filter, path, handler)
    }
}

/// A Catena answer or error.
pub(crate) fn answer<T: Serialize>(result: Result<T, ApiError>) -> Response {
    let document = result.and_then(|message| json::encode(&message).map_err(ApiError::internal));
    match document {
        Ok(document) => json_response(StatusCode::OK, document),
        Err(error) => error.respond(Form::Catena),
    }
}
