//! Errors over HTTP and gRPC.

use prost::Message as _;
use serde_json::{Value, json};
use sortie_wire::json as wire_json;
use sortie_wire::status::{self, ErrorInfo, MAX_DETAILS_BYTES, Status};
use tonic::Code;

use crate::schemas;

#[test]
fn the_body_is_what_the_specification_says() {
    let status = status::refusal(Code::NotFound, "match_unknown", "there is no match with this id");
    let body: Value = serde_json::from_slice(&wire_json::encode(&status).unwrap()).unwrap();
    assert_eq!(
        body,
        json!({"code": 5, "message": "there is no match with this id", "details": [{
            "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "match_unknown", "domain": "sortie",
        }]})
    );
    schemas::validator("Google.Rpc.Status").validate(&body).unwrap();
}

#[test]
fn nothing_is_lost_over_grpc() {
    let status = status::refusal(Code::FailedPrecondition, "server_given_up", "the server was given up");
    let sent = tonic::Status::from(status.clone());
    assert_eq!((sent.code(), sent.message()), (Code::FailedPrecondition, "the server was given up"));
    assert_eq!(Status::decode(sent.details()).unwrap(), status);

    let received = Status::from(&sent);
    assert_eq!(received, status);
    assert_eq!(status::reason(&received).as_deref(), Some("server_given_up"));
}

#[test]
fn details_of_other_conventions_are_left_behind() {
    for details in [&b"\xff\xff"[..], b"", &Status { code: 3, ..Status::default() }.encode_to_vec()] {
        let foreign = tonic::Status::with_details(Code::Internal, "oh", details.to_vec().into());
        let status = Status::from(&foreign);
        assert_eq!((status.code, status.message.as_str()), (13, "oh"));
        assert_eq!((status::reason(&status), status.details), (None, Vec::new()));
    }
}

#[test]
fn details_that_would_not_fit_a_trailer_stay_behind() {
    let long = "x".repeat(MAX_DETAILS_BYTES);
    let sent = tonic::Status::from(status::refusal(Code::Internal, "internal", long.clone()));
    assert_eq!((sent.details(), sent.message()), (&b""[..], long.as_str()));
}

#[test]
fn a_reason_of_another_domain_is_not_ours() {
    let foreign = ErrorInfo { reason: "X".into(), domain: "other".into(), ..ErrorInfo::default() };
    let status = Status { details: vec![sortie_wire::any::Any::pack(&foreign)], ..Status::default() };
    assert_eq!(status::reason(&status), None);
}

#[test]
fn http_codes_are_those_of_google_rpc_code() {
    let expected = [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401];
    for (code, http) in (0..).zip(expected) {
        assert_eq!(status::http_code(Code::from_i32(code)), http, "code {code}");
    }
}
