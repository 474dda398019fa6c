(component
  (type $ty-witlet:base/types@0.1.0 (;0;)
    (instance
      (type (;0;) (variant (case "invalid" string) (case "not-found" string) (case "denied" string) (case "unavailable" string) (case "timeout" string) (case "failed" string) (case "other" string)))
      (export (;1;) "error" (type (eq 0)))
    )
  )
  (import "witlet:base/types@0.1.0" (instance $witlet:base/types@0.1.0 (;0;) (type $ty-witlet:base/types@0.1.0)))
  (alias export $witlet:base/types@0.1.0 "error" (type $error (;1;)))
  (type $ty-witlet:base/kv@0.1.0 (;2;)
    (instance
      (alias outer 1 $error (type (;0;)))
      (export (;1;) "error" (type (eq 0)))
      (type (;2;) (list u8))
      (type (;3;) (option 2))
      (type (;4;) (result 3 (error 1)))
      (type (;5;) (func (param "key" string) (result 4)))
      (export (;0;) "get" (func (type 5)))
      (type (;6;) (result (error 1)))
      (type (;7;) (func (param "key" string) (param "value" 2) (result 6)))
      (export (;1;) "set" (func (type 7)))
    )
  )
  (import "witlet:base/kv@0.1.0" (instance $witlet:base/kv@0.1.0 (;1;) (type $ty-witlet:base/kv@0.1.0)))
  (type $ty-witlet:base/objects@0.1.0 (;3;)
    (instance
      (export (;0;) "pod" (type (sub resource)))
      (export (;1;) "container" (type (sub resource)))
    )
  )
  (import "witlet:base/objects@0.1.0" (instance $witlet:base/objects@0.1.0 (;2;) (type $ty-witlet:base/objects@0.1.0)))
  (core module $main (;0;)
    (type (;0;) (func (param i32)))
    (type (;1;) (func (param i32 i32 i32)))
    (type (;2;) (func (param i32 i32 i32 i32 i32)))
    (type (;3;) (func (param i32 i32 i32 i32) (result i32)))
    (type (;4;) (func (param i32 i32 i32) (result i32)))
    (type (;5;) (func (param i32) (result i32)))
    (type (;6;) (func (param i32 i32 i32 i32 i32) (result i32)))
    (import "witlet:base/objects@0.1.0" "[resource-drop]pod" (func $drop-pod (;0;) (type 0)))
    (import "witlet:base/objects@0.1.0" "[resource-drop]container" (func $drop-container (;1;) (type 0)))
    (import "witlet:base/kv@0.1.0" "get" (func $get (;2;) (type 1)))
    (import "witlet:base/kv@0.1.0" "set" (func $set (;3;) (type 2)))
    (memory (;0;) 2)
    (global $heap (;0;) (mut i32) i32.const 8192)
    (export "memory" (memory 0))
    (export "cabi_realloc" (func 4))
    (export "witlet:probe/probe@0.1.0#check" (func 7))
    (func (;4;) (type 3) (param i32 i32 i32) (param $size i32) (result i32)
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
    (func $error (;5;) (type 4) (param $case i32) (param $at i32) (param $len i32) (result i32)
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
    (func $recurse (;6;) (type 5) (param i32) (result i32)
      local.get 0
      i32.const 1
      i32.add
      call $recurse
      i32.const 1
      i32.add
    )
    (func (;7;) (type 6) (param $pod i32) (param $container i32) (param $at i32) (param $len i32) (param i32) (result i32)
      (local $mood i32)
      local.get $pod
      call $drop-pod
      local.get $container
      call $drop-container
      local.get $at
      i32.load8_u
      local.set $mood
      local.get $at
      i32.const 1
      i32.add
      local.set $at
      local.get $len
      i32.const 1
      i32.sub
      local.set $len
      local.get $mood
      i32.const 83
      i32.eq
      if ;; label = @1
        local.get $at
        local.get $len
        local.get $at
        local.get $len
        i32.const 128
        call $set
      else
        local.get $at
        local.get $len
        i32.const 128
        call $get
      end
      i32.const 128
      i32.load8_u
      if ;; label = @1
        i32.const 132
        i32.load8_u
        i32.const 136
        i32.load
        i32.const 140
        i32.load
        call $error
        return
      end
      i32.const 1024
      i32.const 0
      i32.store8
      i32.const 1028
      i32.const 0
      i32.store8
      i32.const 1032
      i32.const 136
      i32.load
      i32.store
      i32.const 1036
      i32.const 140
      i32.load
      i32.const 0
      i32.const 132
      i32.load8_u
      local.get $mood
      i32.const 83
      i32.ne
      i32.and
      select
      i32.store
      i32.const 1024
    )
    (@custom "witlet:manifest" (after code) "{\22capabilities\22:[\22kv\22],\22kind\22:\22probe\22,\22name\22:\22test\22,\22sdk\22:\22none\22,\22state_version\22:0,\22track\22:\220.1\22,\22version\22:\221.0.0\22}")
    (@producers
      (processed-by "wit-component" "0.254.2")
    )
  )
  (core module $wit-component-shim-module (;1;)
    (type (;0;) (func (param i32 i32 i32)))
    (type (;1;) (func (param i32 i32 i32 i32 i32)))
    (table (;0;) 2 2 funcref)
    (export "0" (func 0))
    (export "1" (func 1))
    (export "$imports" (table 0))
    (func (;0;) (type 0) (param i32 i32 i32)
      local.get 0
      local.get 1
      local.get 2
      i32.const 0
      call_indirect (type 0)
    )
    (func (;1;) (type 1) (param i32 i32 i32 i32 i32)
      local.get 0
      local.get 1
      local.get 2
      local.get 3
      local.get 4
      i32.const 1
      call_indirect (type 1)
    )
    (@producers
      (processed-by "wit-component" "0.254.2")
    )
  )
  (core module $wit-component-fixup (;2;)
    (type (;0;) (func (param i32 i32 i32)))
    (type (;1;) (func (param i32 i32 i32 i32 i32)))
    (import "" "0" (func (;0;) (type 0)))
    (import "" "1" (func (;1;) (type 1)))
    (import "" "$imports" (table (;0;) 2 2 funcref))
    (elem (;0;) (i32.const 0) func 0 1)
    (@producers
      (processed-by "wit-component" "0.254.2")
    )
  )
  (core instance $wit-component-shim-instance (;0;) (instantiate $wit-component-shim-module))
  (alias export $witlet:base/types@0.1.0 "error" (type $"#type4 error" (@name "error") (;4;)))
  (alias export $witlet:base/objects@0.1.0 "pod" (type $pod (;5;)))
  (alias export $witlet:base/objects@0.1.0 "container" (type $container (;6;)))
  (type (;7;) (enum "pass" "warn" "fail" "unknown"))
  (type (;8;) (record (field "verdict" 7) (field "message" string)))
  (alias export $witlet:base/objects@0.1.0 "pod" (type $"#type9 pod" (@name "pod") (;9;)))
  (core func $resource.drop (;0;) (canon resource.drop $"#type9 pod"))
  (alias export $witlet:base/objects@0.1.0 "container" (type $"#type10 container" (@name "container") (;10;)))
  (core func $"#core-func1 resource.drop" (@name "resource.drop") (;1;) (canon resource.drop $"#type10 container"))
  (core instance $witlet:base/objects@0.1.0 (;1;)
    (export "[resource-drop]pod" (func $resource.drop))
    (export "[resource-drop]container" (func $"#core-func1 resource.drop"))
  )
  (alias core export $wit-component-shim-instance "0" (core func $indirect-witlet:base/kv@0.1.0-get (;2;)))
  (alias core export $wit-component-shim-instance "1" (core func $indirect-witlet:base/kv@0.1.0-set (;3;)))
  (core instance $witlet:base/kv@0.1.0 (;2;)
    (export "get" (func $indirect-witlet:base/kv@0.1.0-get))
    (export "set" (func $indirect-witlet:base/kv@0.1.0-set))
  )
  (core instance $main (;3;) (instantiate $main
      (with "witlet:base/objects@0.1.0" (instance $witlet:base/objects@0.1.0))
      (with "witlet:base/kv@0.1.0" (instance $witlet:base/kv@0.1.0))
    )
  )
  (alias core export $main "memory" (core memory $memory (;0;)))
  (alias core export $wit-component-shim-instance "$imports" (core table $"shim table" (;0;)))
  (alias export $witlet:base/kv@0.1.0 "get" (func $get (;0;)))
  (alias core export $main "cabi_realloc" (core func $realloc (;4;)))
  (core func $"#core-func5 indirect-witlet:base/kv@0.1.0-get" (@name "indirect-witlet:base/kv@0.1.0-get") (;5;) (canon lower (func $get) (memory $memory) (realloc $realloc) string-encoding=utf8))
  (alias export $witlet:base/kv@0.1.0 "set" (func $set (;1;)))
  (core func $"#core-func6 indirect-witlet:base/kv@0.1.0-set" (@name "indirect-witlet:base/kv@0.1.0-set") (;6;) (canon lower (func $set) (memory $memory) (realloc $realloc) string-encoding=utf8))
  (core instance $fixup-args (;4;)
    (export "$imports" (table $"shim table"))
    (export "0" (func $"#core-func5 indirect-witlet:base/kv@0.1.0-get"))
    (export "1" (func $"#core-func6 indirect-witlet:base/kv@0.1.0-set"))
  )
  (core instance $fixup (;5;) (instantiate $wit-component-fixup
      (with "" (instance $fixup-args))
    )
  )
  (type (;11;) (borrow $pod))
  (type (;12;) (borrow $container))
  (type (;13;) (result 8 (error $"#type4 error")))
  (type (;14;) (func (param "pod" 11) (param "container" 12) (param "params" string) (param "timeout-ms" u32) (result 13)))
  (alias core export $main "witlet:probe/probe@0.1.0#check" (core func $witlet:probe/probe@0.1.0#check (;7;)))
  (func $check (;2;) (type 14) (canon lift (core func $witlet:probe/probe@0.1.0#check) (memory $memory) (realloc $realloc) string-encoding=utf8))
  (component $witlet:probe/probe@0.1.0-shim-component (;0;)
    (type (;0;) (variant (case "invalid" string) (case "not-found" string) (case "denied" string) (case "unavailable" string) (case "timeout" string) (case "failed" string) (case "other" string)))
    (import "import-type-error" (type (;1;) (eq 0)))
    (import "import-type-pod" (type (;2;) (sub resource)))
    (import "import-type-container" (type (;3;) (sub resource)))
    (import "import-type-pod0" (type (;4;) (eq 2)))
    (type (;5;) (borrow 4))
    (import "import-type-container0" (type (;6;) (eq 3)))
    (type (;7;) (borrow 6))
    (type (;8;) (enum "pass" "warn" "fail" "unknown"))
    (import "import-type-verdict" (type (;9;) (eq 8)))
    (type (;10;) (record (field "verdict" 9) (field "message" string)))
    (import "import-type-outcome" (type (;11;) (eq 10)))
    (import "import-type-error0" (type (;12;) (eq 1)))
    (type (;13;) (result 11 (error 12)))
    (type (;14;) (func (param "pod" 5) (param "container" 7) (param "params" string) (param "timeout-ms" u32) (result 13)))
    (import "import-func-check" (func (;0;) (type 14)))
    (export (;15;) "error" (type 1))
    (export (;16;) "pod" (type 2))
    (export (;17;) "container" (type 3))
    (type (;18;) (enum "pass" "warn" "fail" "unknown"))
    (export (;19;) "verdict" (type 18))
    (type (;20;) (record (field "verdict" 19) (field "message" string)))
    (export (;21;) "outcome" (type 20))
    (type (;22;) (borrow 16))
    (type (;23;) (borrow 17))
    (type (;24;) (result 21 (error 15)))
    (type (;25;) (func (param "pod" 22) (param "container" 23) (param "params" string) (param "timeout-ms" u32) (result 24)))
    (export (;1;) "check" (func 0) (func (type 25)))
  )
  (instance $witlet:probe/probe@0.1.0-shim-instance (;3;) (instantiate $witlet:probe/probe@0.1.0-shim-component
      (with "import-func-check" (func $check))
      (with "import-type-error" (type $"#type4 error"))
      (with "import-type-pod" (type $pod))
      (with "import-type-container" (type $container))
      (with "import-type-pod0" (type $pod))
      (with "import-type-container0" (type $container))
      (with "import-type-verdict" (type 7))
      (with "import-type-outcome" (type 8))
      (with "import-type-error0" (type $"#type4 error"))
    )
  )
  (export $witlet:probe/probe@0.1.0 (;4;) "witlet:probe/probe@0.1.0" (instance $witlet:probe/probe@0.1.0-shim-instance))
  (@producers
    (processed-by "wit-component" "0.254.2")
  )
)
