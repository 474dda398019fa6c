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
      (export (;0;) "pod" (type (sub resource)))
    )
  )
  (import "witlet:base/objects@0.1.0" (instance $witlet:base/objects@0.1.0 (;1;) (type $ty-witlet:base/objects@0.1.0)))
  (core module $main (;0;)
    (type (;0;) (func (param i32)))
    (type (;1;) (func (param i32 i32 i32 i32) (result i32)))
    (type (;2;) (func (param i32 i32 i32) (result i32)))
    (type (;3;) (func (param i32) (result i32)))
    (import "witlet:base/objects@0.1.0" "[resource-drop]pod" (func $drop-pod (;0;) (type 0)))
    (memory (;0;) 2)
    (global $heap (;0;) (mut i32) i32.const 8192)
    (export "memory" (memory 0))
    (export "cabi_realloc" (func 1))
    (export "witlet:policy/admission@0.1.0#admit-pod" (func 4))
    (func (;1;) (type 1) (param i32 i32 i32) (param $size i32) (result i32)
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
    (func $error (;2;) (type 2) (param $case i32) (param $at i32) (param $len i32) (result i32)
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
    (func $recurse (;3;) (type 3) (param i32) (result i32)
      local.get 0
      i32.const 1
      i32.add
      call $recurse
      i32.const 1
      i32.add
    )
    (func (;4;) (type 3) (param $pod i32) (result i32)
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
      i32.const 1
      i32.store8
      i32.const 1032
      i32.const 16
      i32.store
      i32.const 1036
      i32.const 7
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
    (data (;0;) (i32.const 16) "NotHere")
    (data (;1;) (i32.const 256) "the message")
    (data (;2;) (i32.const 300) "a warning")
    (@custom "witlet:manifest" (after data) "{\22capabilities\22:[],\22kind\22:\22policy\22,\22name\22:\22test\22,\22sdk\22:\22none\22,\22state_version\22:0,\22track\22:\220.1\22,\22version\22:\221.0.0\22}")
    (@producers
      (processed-by "wit-component" "0.254.2")
    )
  )
  (alias export $witlet:base/types@0.1.0 "error" (type $error (;2;)))
  (alias export $witlet:base/objects@0.1.0 "pod" (type $pod (;3;)))
  (type (;4;) (record (field "reason" string) (field "message" string)))
  (type (;5;) (variant (case "allow") (case "deny" 4)))
  (type (;6;) (list string))
  (type (;7;) (record (field "decision" 5) (field "warnings" 6)))
  (alias export $witlet:base/objects@0.1.0 "pod" (type $"#type8 pod" (@name "pod") (;8;)))
  (core func $resource.drop (;0;) (canon resource.drop $"#type8 pod"))
  (core instance $witlet:base/objects@0.1.0 (;0;)
    (export "[resource-drop]pod" (func $resource.drop))
  )
  (core instance $main (;1;) (instantiate $main
      (with "witlet:base/objects@0.1.0" (instance $witlet:base/objects@0.1.0))
    )
  )
  (alias core export $main "memory" (core memory $memory (;0;)))
  (type (;9;) (borrow $pod))
  (type (;10;) (result 7 (error $error)))
  (type (;11;) (func (param "pod" 9) (result 10)))
  (alias core export $main "witlet:policy/admission@0.1.0#admit-pod" (core func $witlet:policy/admission@0.1.0#admit-pod (;1;)))
  (alias core export $main "cabi_realloc" (core func $cabi_realloc (;2;)))
  (func $admit-pod (;0;) (type 11) (canon lift (core func $witlet:policy/admission@0.1.0#admit-pod) (memory $memory) string-encoding=utf8))
  (component $witlet:policy/admission@0.1.0-shim-component (;0;)
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
  (instance $witlet:policy/admission@0.1.0-shim-instance (;2;) (instantiate $witlet:policy/admission@0.1.0-shim-component
      (with "import-func-admit-pod" (func $admit-pod))
      (with "import-type-error" (type $error))
      (with "import-type-pod" (type $pod))
      (with "import-type-pod0" (type $pod))
      (with "import-type-denial" (type 4))
      (with "import-type-decision" (type 5))
      (with "import-type-review" (type 7))
      (with "import-type-error0" (type $error))
    )
  )
  (export $witlet:policy/admission@0.1.0 (;3;) "witlet:policy/admission@0.1.0" (instance $witlet:policy/admission@0.1.0-shim-instance))
  (@producers
    (processed-by "wit-component" "0.254.2")
  )
)
