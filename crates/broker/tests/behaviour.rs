//! Runs the suite of behaviours: each on a broker of its own, or all on the one that `AMQP_TEST_URI` names.
//!
//! With `AMQP_TEST_URI=amqp://guest:guest@127.0.0.1:5672/%2f` the same tests say what
//! RabbitMQ does.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod suite;

use broker::{Broker, Config};

macro_rules! behaviours {
    ($($name:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Ok(uri) = std::env::var("AMQP_TEST_URI") {
                    suite::$name(&uri).await;
                } else {
                    let broker = Broker::start(Config::default()).await.unwrap();
                    suite::$name(&broker.uri()).await;
                    broker.stop().await;
                }
            }
        )*
    };
}

behaviours! {
    wrong_password_is_403,
    unknown_vhost_is_530,
    connections_and_channels_close_in_order,
    a_channel_error_ends_its_channel_only,
    a_missing_queue_is_404,
    long_reply_texts_are_cut,
    differing_arguments_are_406,
    an_exclusive_queue_is_its_connections_own,
    an_exclusive_queue_is_not_durable_whatever_is_asked,
    the_server_names_queues_and_consumers,
    reserved_names_are_403,
    purge_and_delete_count_and_check,
    an_auto_delete_queue_goes_with_its_last_consumer,
    the_default_exchange_is_not_for_binding,
    exchanges_are_known_or_404,
    an_unknown_exchange_type_is_503,
    publishing_to_an_unknown_exchange_is_404,
    immediate_is_540,
    another_users_id_is_406,
    a_mandatory_message_is_returned_before_its_confirm,
    bodies_of_all_sizes_survive,
    bodies_pass_between_frames_of_different_sizes,
    messages_of_many_channels_do_not_mix,
    properties_keep_their_values_and_types,
    messages_come_in_order_and_are_gone_once_acked,
    no_ack_deliveries_are_gone_at_once,
    prefetch_limits_each_consumer,
    a_global_prefetch_limits_the_channel,
    a_later_prefetch_lifts_the_global_one,
    a_global_prefetch_that_is_reached_holds_back_no_ack_consumers,
    consumers_take_turns,
    an_exclusive_consumer_is_the_only_one,
    a_consumer_tag_in_use_is_530,
    deleting_a_queue_cancels_its_consumers,
    deleting_a_queue_cancels_consumers_of_other_connections,
    cancelling_keeps_what_was_delivered,
    get_counts_down,
    acks_can_be_multiple,
    an_unknown_delivery_tag_is_406,
    a_tag_of_another_channel_is_unknown,
    rejected_messages_go_or_come_back,
    recover_brings_everything_back,
    unacked_messages_come_back_in_order,
    messages_given_back_one_by_one_keep_their_order,
    a_lone_consumer_gets_its_rejected_message_again,
    a_closed_connection_gives_its_messages_back,
    a_silent_client_is_given_up,
    ten_thousand_messages_arrive_exactly_once,
}
