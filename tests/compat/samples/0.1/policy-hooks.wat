(component
  (type $ty-witlet:base/types@0.1.0 (;0;)
    (instance
      (type (;0;) (variant (case "invalid" string) (case "not-found" string) (case "denied" string) (case "unavailable" string) (case "timeout" string) (case "failed" string) (case "other" string)))
      (export (;1;) "error" (type (eq 0)))
    )
  )
  (import "witlet:base/types@0.1.0" (instance $witlet:base/types@0.1.0 (;0;) (type $ty-witlet:base/types@0.1.0)))
  (type $ty-witlet:base/objects@0.1.0 (;1;)
    (instance
      (export (;0;) "container" (type (sub resource)))
      (export (;1;) "pod" (type (sub resource)))
    )
  )
  (import "witlet:base/objects@0.1.0" (instance $witlet:base/objects@0.1.0 (;1;) (type $ty-witlet:base/objects@0.1.0)))
  (core module $main (;0;)
    (type (;0;) (func (param i32)))
    (type (;1;) (func (param i32 i32 i32 i32) (result i32)))
    (type (;2;) (func (param i32 i32 i32) (result i32)))
    (type (;3;) (func (param i32) (result i32)))
    (type (;4;) (func (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (import "witlet:base/objects@0.1.0" "[resource-drop]container" (func $drop-container (;0;) (type 0)))
    (import "witlet:base/objects@0.1.0" "[resource-drop]pod" (func $drop-pod (;1;) (type 0)))
    (memory (;0;) 2)
    (global $heap (;0;) (mut i32) i32.const 8192)
    (export "memory" (memory 0))
    (export "cabi_realloc" (func 2))
    (export "witlet:policy/admission@0.1.0#admit-pod" (func 5))
    (export "witlet:policy-hooks/container-create@0.1.0#review-container" (func 6))
    (export "witlet:policy-hooks/access@0.1.0#review-access" (func 7))
    (func (;2;) (type 1) (param i32 i32 i32) (param $size i32) (result i32)
      (local $at i32)
      global.get $heap
      i32.const 7
      i32.add
      i32.const -8
      i32.and
      local.set $at
      local.get $at
      local.get $size
      i32.add
      global.set $heap
      block $fits
        global.get $heap
        memory.size
        i32.const 65536
        i32.mul
        i32.le_u
        br_if $fits
        local.get $size
        i32.const 65536
        i32.div_u
        i32.const 1
        i32.add
        memory.grow
        drop
      end
      local.get $at
    )
    (func $error (;3;) (type 2) (param $case i32) (param $at i32) (param $len i32) (result i32)
      i32.const 1024
      i32.const 1
      i32.store8
      i32.const 1028
      local.get $case
      i32.store8
      i32.const 1032
      local.get $at
      i32.store
      i32.const 1036
      local.get $len
      i32.store
      i32.const 1024
    )
    (func $recurse (;4;) (type 3) (param i32) (result i32)
      local.get 0
      i32.const 1
      i32.add
      call $recurse
      i32.const 1
      i32.add
    )
    (func (;5;) (type 3) (param $pod i32) (result i32)
      local.get $pod
      call $drop-pod
      i32.const 320
      i32.const 300
      i32.store
      i32.const 324
      i32.const 9
      i32.store
      i32.const 1024
      i32.const 0
      i32.store8
      i32.const 1028
      i32.const 0
      i32.store8
      i32.const 1032
      i32.const 16
      i32.store
      i32.const 1036
      i32.const 0
      i32.store
      i32.const 1040
      i32.const 256
      i32.store
      i32.const 1044
      i32.const 11
      i32.store
      i32.const 1048
      i32.const 320
      i32.store
      i32.const 1052
      i32.const 1
      i32.store
      i32.const 1024
    )
    (func (;6;) (type 1) (param $pod i32) (param $container i32) (param $image i32) (param i32) (result i32)
      local.get $pod
      call $drop-pod
      local.get $container
      call $drop-container
      i32.const 1024
      i32.const 0
      i32.store8
      i32.const 1028
      local.get $image
      i32.load8_u
      i32.const 98
      i32.eq
      i32.store8
      i32.const 1032
      i32.const 2048
      i32.store
      i32.const 1036
      i32.const 14
      i32.store
      i32.const 1040
      i32.const 0
      i32.store
      i32.const 1044
      i32.const 0
      i32.store
      i32.const 1024
    )
    (func (;7;) (type 4) (param $pod i32) (param $verb i32) (param $verb-len i32) (param i32 i32 i32) (param $commands i32) (param i32 i32 i32 i32) (result i32)
      local.get $pod
      call $drop-pod
      i32.const 1024
      i32.const 0
      i32.store8
      i32.const 1028
      local.get $verb-len
      i32.const 4
      i32.eq
      local.get $commands
      i32.const 0
      i32.ne
      i32.and
      i32.store8
      i32.const 1032
      i32.const 2100
      i32.store
      i32.const 1036
      i32.const 11
      i32.store
      i32.const 320
      i32.const 300
      i32.store
      i32.const 324
      i32.const 9
      i32.store
      i32.const 1040
      i32.const 320
      i32.store
      i32.const 1044
      i32.const 1
      i32.store
      i32.const 1024
    )
    (data (;0;) (i32.const 16) "")
    (data (;1;) (i32.const 256) "the message")
    (data (;2;) (i32.const 300) "a warning")
    (data (;3;) (i32.const 2048) "not this image")
    (data (;4;) (i32.const 2100) "no commands")
    (@custom "witlet:manifest" (after data) "{\22capabilities\22:[],\22kind\22:\22policy\22,\22name\22:\22test\22,\22sdk\22:\22none\22,\22state_version\22:0,\22track\22:\220.1\22,\22version\22:\221.0.0\22}")
    (@producers
      (processed-by "wit-component" "0.254.2")
    )
  )
  (alias export $witlet:base/types@0.1.0 "error" (type $error (;2;)))
  (alias export $witlet:base/objects@0.1.0 "pod" (type $pod (;3;)))
  (alias export $witlet:base/objects@0.1.0 "container" (type $container (;4;)))
  (type (;5;) (option string))
  (type (;6;) (list string))
  (type (;7;) (record (field "denied" 5) (field "warnings" 6)))
  (type (;8;) (list u16))
  (type (;9;) (record (field "verb" string) (field "container" string) (field "command" 6) (field "stdin" bool) (field "tty" bool) (field "ports" 8)))
  (type (;10;) (record (field "denied" 5) (field "warnings" 6)))
  (type (;11;) (record (field "reason" string) (field "message" string)))
  (type (;12;) (variant (case "allow") (case "deny" 11)))
  (type (;13;) (record (field "decision" 12) (field "warnings" 6)))
  (alias export $witlet:base/objects@0.1.0 "container" (type $"#type14 container" (@name "container") (;14;)))
  (core func $resource.drop (;0;) (canon resource.drop $"#type14 container"))
  (alias export $witlet:base/objects@0.1.0 "pod" (type $"#type15 pod" (@name "pod") (;15;)))
  (core func $"#core-func1 resource.drop" (@name "resource.drop") (;1;) (canon resource.drop $"#type15 pod"))
  (core instance $witlet:base/objects@0.1.0 (;0;)
    (export "[resource-drop]container" (func $resource.drop))
    (export "[resource-drop]pod" (func $"#core-func1 resource.drop"))
  )
  (core instance $main (;1;) (instantiate $main
      (with "witlet:base/objects@0.1.0" (instance $witlet:base/objects@0.1.0))
    )
  )
  (alias core export $main "memory" (core memory $memory (;0;)))
  (type (;16;) (borrow $pod))
  (type (;17;) (borrow $container))
  (type (;18;) (result 7 (error $error)))
  (type (;19;) (func (param "pod" 16) (param "container" 17) (param "image" string) (result 18)))
  (alias core export $main "witlet:policy-hooks/container-create@0.1.0#review-container" (core func $witlet:policy-hooks/container-create@0.1.0#review-container (;2;)))
  (alias core export $main "cabi_realloc" (core func $cabi_realloc (;3;)))
  (func $review-container (;0;) (type 19) (canon lift (core func $witlet:policy-hooks/container-create@0.1.0#review-container) (memory $memory) (realloc $cabi_realloc) string-encoding=utf8))
  (component $witlet:policy-hooks/container-create@0.1.0-shim-component (;0;)
    (type (;0;) (variant (case "invalid" string) (case "not-found" string) (case "denied" string) (case "unavailable" string) (case "timeout" string) (case "failed" string) (case "other" string)))
    (import "import-type-error" (type (;1;) (eq 0)))
    (import "import-type-pod" (type (;2;) (sub resource)))
    (import "import-type-container" (type (;3;) (sub resource)))
    (import "import-type-pod0" (type (;4;) (eq 2)))
    (type (;5;) (borrow 4))
    (import "import-type-container0" (type (;6;) (eq 3)))
    (type (;7;) (borrow 6))
    (type (;8;) (option string))
    (type (;9;) (list string))
    (type (;10;) (record (field "denied" 8) (field "warnings" 9)))
    (import "import-type-review" (type (;11;) (eq 10)))
    (import "import-type-error0" (type (;12;) (eq 1)))
    (type (;13;) (result 11 (error 12)))
    (type (;14;) (func (param "pod" 5) (param "container" 7) (param "image" string) (result 13)))
    (import "import-func-review-container" (func (;0;) (type 14)))
    (export (;15;) "error" (type 1))
    (export (;16;) "pod" (type 2))
    (export (;17;) "container" (type 3))
    (type (;18;) (option string))
    (type (;19;) (list string))
    (type (;20;) (record (field "denied" 18) (field "warnings" 19)))
    (export (;21;) "review" (type 20))
    (type (;22;) (borrow 16))
    (type (;23;) (borrow 17))
    (type (;24;) (result 21 (error 15)))
    (type (;25;) (func (param "pod" 22) (param "container" 23) (param "image" string) (result 24)))
    (export (;1;) "review-container" (func 0) (func (type 25)))
  )
  (instance $witlet:policy-hooks/container-create@0.1.0-shim-instance (;2;) (instantiate $witlet:policy-hooks/container-create@0.1.0-shim-component
      (with "import-func-review-container" (func $review-container))
      (with "import-type-error" (type $error))
      (with "import-type-pod" (type $pod))
      (with "import-type-container" (type $container))
      (with "import-type-pod0" (type $pod))
      (with "import-type-container0" (type $container))
      (with "import-type-review" (type 7))
      (with "import-type-error0" (type $error))
    )
  )
  (export $witlet:policy-hooks/container-create@0.1.0 (;3;) "witlet:policy-hooks/container-create@0.1.0" (instance $witlet:policy-hooks/container-create@0.1.0-shim-instance))
  (type (;20;) (borrow $pod))
  (type (;21;) (result 10 (error $error)))
  (type (;22;) (func (param "pod" 20) (param "request" 9) (result 21)))
  (alias core export $main "witlet:policy-hooks/access@0.1.0#review-access" (core func $witlet:policy-hooks/access@0.1.0#review-access (;4;)))
  (func $review-access (;1;) (type 22) (canon lift (core func $witlet:policy-hooks/access@0.1.0#review-access) (memory $memory) (realloc $cabi_realloc) string-encoding=utf8))
  (component $witlet:policy-hooks/access@0.1.0-shim-component (;1;)
    (type (;0;) (variant (case "invalid" string) (case "not-found" string) (case "denied" string) (case "unavailable" string) (case "timeout" string) (case "failed" string) (case "other" string)))
    (import "import-type-error" (type (;1;) (eq 0)))
    (import "import-type-pod" (type (;2;) (sub resource)))
    (import "import-type-pod0" (type (;3;) (eq 2)))
    (type (;4;) (borrow 3))
    (type (;5;) (list string))
    (type (;6;) (list u16))
    (type (;7;) (record (field "verb" string) (field "container" string) (field "command" 5) (field "stdin" bool) (field "tty" bool) (field "ports" 6)))
    (import "import-type-request" (type (;8;) (eq 7)))
    (type (;9;) (option string))
    (type (;10;) (record (field "denied" 9) (field "warnings" 5)))
    (import "import-type-review" (type (;11;) (eq 10)))
    (import "import-type-error0" (type (;12;) (eq 1)))
    (type (;13;) (result 11 (error 12)))
    (type (;14;) (func (param "pod" 4) (param "request" 8) (result 13)))
    (import "import-func-review-access" (func (;0;) (type 14)))
    (export (;15;) "error" (type 1))
    (export (;16;) "pod" (type 2))
    (type (;17;) (list string))
    (type (;18;) (list u16))
    (type (;19;) (record (field "verb" string) (field "container" string) (field "command" 17) (field "stdin" bool) (field "tty" bool) (field "ports" 18)))
    (export (;20;) "request" (type 19))
    (type (;21;) (option string))
    (type (;22;) (record (field "denied" 21) (field "warnings" 17)))
    (export (;23;) "review" (type 22))
    (type (;24;) (borrow 16))
    (type (;25;) (result 23 (error 15)))
    (type (;26;) (func (param "pod" 24) (param "request" 20) (result 25)))
    (export (;1;) "review-access" (func 0) (func (type 26)))
  )
  (instance $witlet:policy-hooks/access@0.1.0-shim-instance (;4;) (instantiate $witlet:policy-hooks/access@0.1.0-shim-component
      (with "import-func-review-access" (func $review-access))
      (with "import-type-error" (type $error))
      (with "import-type-pod" (type $pod))
      (with "import-type-pod0" (type $pod))
      (with "import-type-request" (type 9))
      (with "import-type-review" (type 10))
      (with "import-type-error0" (type $error))
    )
  )
  (export $witlet:policy-hooks/access@0.1.0 (;5;) "witlet:policy-hooks/access@0.1.0" (instance $witlet:policy-hooks/access@0.1.0-shim-instance))
  (type (;23;) (borrow $pod))
  (type (;24;) (result 13 (error $error)))
  (type (;25;) (func (param "pod" 23) (result 24)))
  (alias core export $main "witlet:policy/admission@0.1.0#admit-pod" (core func $witlet:policy/admission@0.1.0#admit-pod (;5;)))
  (func $admit-pod (;2;) (type 25) (canon lift (core func $witlet:policy/admission@0.1.0#admit-pod) (memory $memory) string-encoding=utf8))
  (component $witlet:policy/admission@0.1.0-shim-component (;2;)
    (type (;0;) (variant (case "invalid" string) (case "not-found" string) (case "denied" string) (case "unavailable" string) (case "timeout" string) (case "failed" string) (case "other" string)))
    (import "import-type-error" (type (;1;) (eq 0)))
    (import "import-type-pod" (type (;2;) (sub resource)))
    (import "import-type-pod0" (type (;3;) (eq 2)))
    (type (;4;) (borrow 3))
    (type (;5;) (record (field "reason" string) (field "message" string)))
    (import "import-type-denial" (type (;6;) (eq 5)))
    (type (;7;) (variant (case "allow") (case "deny" 6)))
    (import "import-type-decision" (type (;8;) (eq 7)))
    (type (;9;) (list string))
    (type (;10;) (record (field "decision" 8) (field "warnings" 9)))
    (import "import-type-review" (type (;11;) (eq 10)))
    (import "import-type-error0" (type (;12;) (eq 1)))
    (type (;13;) (result 11 (error 12)))
    (type (;14;) (func (param "pod" 4) (result 13)))
    (import "import-func-admit-pod" (func (;0;) (type 14)))
    (export (;15;) "error" (type 1))
    (export (;16;) "pod" (type 2))
    (type (;17;) (record (field "reason" string) (field "message" string)))
    (export (;18;) "denial" (type 17))
    (type (;19;) (variant (case "allow") (case "deny" 18)))
    (export (;20;) "decision" (type 19))
    (type (;21;) (list string))
    (type (;22;) (record (field "decision" 20) (field "warnings" 21)))
    (export (;23;) "review" (type 22))
    (type (;24;) (borrow 16))
    (type (;25;) (result 23 (error 15)))
    (type (;26;) (func (param "pod" 24) (result 25)))
    (export (;1;) "admit-pod" (func 0) (func (type 26)))
  )
  (instance $witlet:policy/admission@0.1.0-shim-instance (;6;) (instantiate $witlet:policy/admission@0.1.0-shim-component
      (with "import-func-admit-pod" (func $admit-pod))
      (with "import-type-error" (type $error))
      (with "import-type-pod" (type $pod))
      (with "import-type-pod0" (type $pod))
      (with "import-type-denial" (type 11))
      (with "import-type-decision" (type 12))
      (with "import-type-review" (type 13))
      (with "import-type-error0" (type $error))
    )
  )
  (export $witlet:policy/admission@0.1.0 (;7;) "witlet:policy/admission@0.1.0" (instance $witlet:policy/admission@0.1.0-shim-instance))
  (@producers
    (processed-by "wit-component" "0.254.2")
  )
)
