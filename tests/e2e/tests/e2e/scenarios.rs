//! What is proved, by subject.

mod claims;
mod config;
mod deletion;
mod devices;
mod garbage;
mod images;
mod kubectl;
mod languages;
mod lifecycle;
mod managers;
mod network;
mod plugin_registry;
mod plugins;
mod preemption;
mod probes;
mod resize;
mod restart;
mod restart_all;
mod scale;
mod server;
mod sidecars;
mod sinks;
mod static_pods;
mod stats;
mod streams;
mod volumes;

use futures::FutureExt;

use crate::harness::Scenario;

macro_rules! scenarios {
    ($($mode:ident $module:ident :: { $($name:ident),+ $(,)? })+) => {
        /// In the order in which they run.
        pub(crate) const ALL: &[Scenario] = &[
            $($(Scenario {
                name: concat!(stringify!($module), "::", stringify!($name)),
                alone: scenarios!(@$mode),
                run: |ctx| $module::$name(ctx).boxed(),
            },)+)+
        ];
    };
    (@together) => { false };
    (@alone) => { true };
}

scenarios! {
    together lifecycle::{
        init_containers_run_in_order,
        failing_init_container_holds_the_pod,
        environment_is_complete,
        variables_come_from_files,
        user_namespaces_need_a_runtime_that_can,
        restart_policies_decide_the_phase,
        termination_messages_are_kept,
        crash_loop_backs_off,
        pre_stop_runs_before_the_signal,
        stubborn_containers_are_killed,
    }
    together sidecars::{
        they_start_first_and_end_last,
        they_do_not_keep_a_job_alive,
        they_are_restarted_whatever_the_pods_policy,
    }
    together deletion::{
        by_force,
        during_a_pull,
        at_once_after_the_creation,
        the_phase_tells_the_end_once_nothing_runs,
    }
    together garbage::{
        an_evicted_pod_keeps_no_container,
    }
    together restart_all::{
        one_exit_begins_the_whole_pod_anew,
    }
    together resize::{
        a_running_pod_is_resized_in_place,
        a_container_may_want_to_be_restarted_for_it,
        what_cannot_be_given_is_told,
    }
    together volumes::{
        every_kind_is_mounted,
        host_path_types_are_checked,
        missing_objects_hold_the_pod,
        changes_arrive_in_running_pods,
    }
    together probes::{
        readiness_flips,
        liveness_restarts,
        startup_holds_the_others_back,
        every_handler_works,
    }
    together images::{
        never_pulled_images_are_reported,
        unreachable_registries_back_off,
        an_image_is_pulled_from_a_registry,
        image_volumes_are_pulled_and_left_to_the_runtime,
    }
    together network::{
        pods_reach_each_other,
        host_ports_are_mapped,
        host_network_pods_share_the_nodes,
        a_second_interface_comes_and_goes,
    }
    together static_pods::{
        a_file_becomes_a_pod_with_a_mirror,
        a_malformed_file_harms_nobody,
        a_url_becomes_pods,
    }
    together stats::{
        a_busy_pod_shows_in_the_summary,
        metrics_are_well_formed_and_name_the_pod,
        metrics_look_like_the_kubelets,
        large_logs_are_rotated,
    }
    together kubectl::{
        the_usual_commands_work,
        the_node_is_registered,
    }
    together streams::{
        logs_are_read,
        logs_are_followed_to_the_end,
        logs_of_the_one_before_are_kept,
        commands_run_in_containers,
        a_terminal_is_one,
        processes_are_attached_to,
        ports_are_forwarded,
        files_are_copied,
        a_pod_is_debugged,
    }
    together server::{
        only_the_known_are_let_in,
        the_administrator_is_answered,
        pods_are_reached_through_the_api,
    }
    together config::{
        mistakes_are_listed_together,
        broken_syntax_is_located,
        missing_files_are_named,
    }
    // It gives the image that others pull another name.
    alone images::{
        private_images_need_credentials,
    }
    alone garbage::{
        images_and_dead_containers_beyond_the_limits_go,
    }
    alone preemption::{
        a_critical_pod_gets_room,
    }
    alone scale::{
        fifty_pods_at_once,
    }
    alone devices::{
        a_plugins_devices_go_to_pods_and_stay_there,
    }
    alone managers::{
        a_pod_has_a_cpu_for_itself,
    }
    alone restart::{
        a_killed_agent_disturbs_no_container,
        a_kill_during_the_start_loses_nothing,
        a_killed_containerd_disturbs_no_container,
        networks_are_torn_down_without_the_agent,
        containers_of_a_kubelet_are_kept,
    }
    alone claims::{
        a_driver_is_a_plugin,
        pods_share_what_is_staged,
    }
    alone sinks::{
        logs_and_metrics_reach_a_collector,
        other_receivers_are_served,
        a_receiver_that_was_away_misses_nothing,
    }
    together languages::{
        rust,
        javascript,
        python,
        c,
    }
    alone plugin_registry::{
        what_is_pushed_is_pulled_by_the_node,
    }
    alone plugins::{
        a_looping_plugin_harms_nobody,
        a_plugin_is_swapped_on_the_running_node,
        a_stanza_changes_a_default_plugin,
        the_metrics_tell_of_each_plugin,
        the_command_line_shows_and_changes_plugins,
        probes_go_on_while_their_plugin_is_swapped,
        nobody_gets_into_production,
    }
}
