//! The messages that callers send.

/// Calls `$check` for each of them with `$input`.
macro_rules! for_each_message {
    ($check:ident, $input:expr) => {{
        use sortie_wire::catena::common::*;
        use sortie_wire::catena::events::*;
        use sortie_wire::catena::match_broker::*;
        use sortie_wire::catena::server_manager::*;
        for_each_message!(@ $check, $input,
            RequestMatchRequest, RequestMatchResponse, MatchReadyRequest, EndMatchRequest, ListServersRequest,
            AdminAllocateServerRequest, AdminDeallocateServerRequest, GetServiceHealthRequest,
            AdminXReconfigureMatchBrokerRequest, AdminXGetMatchBrokerConfigResponse, EmitUpdateEventRequest,
            AdminEmitUpdateEventRequest, SubscribeToEventsByTagRequest, SubscribeToEventsResponse);
    }};
    (@ $check:ident, $input:expr, $($message:ty),*) => { $($check::<$message>($input);)* };
}
