//! What all kinds share, generated once: so that a `Pod` of a probe and a `Pod` of a volume are one type.

#[allow(missing_debug_implementations, unreachable_pub, unused_qualifications, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit/base/0.1",
        inline: "
            package witlet:sdk;
            world base {
                import witlet:base/types@0.1.0;
                import witlet:base/objects@0.1.0;
                import witlet:base/log@0.1.0;
                import witlet:base/clock@0.1.0;
                import witlet:base/random@0.1.0;
                import witlet:base/config@0.1.0;
                import witlet:base/kv@0.1.0;
                import witlet:base/egress-http@0.1.0;
            }
        ",
        generate_all,
        generate_unused_types: true,
        additional_derives: [PartialEq, Clone],
        // The worlds of the kinds describe these imports too; the linker need not be made to keep this description.
        disable_custom_section_link_helpers: true,
    });
}
