(component
  (type $ty-witlet:base/types@0.1.0 (;0;)
    (instance
      (type (;0;) (variant (case "invalid" string) (case "not-found" string) (case "denied" string) (case "unavailable" string) (case "timeout" string) (case "failed" string) (case "other" string)))
      (export (;1;) "error" (type (eq 0)))
    )
  )
  (import "witlet:base/types@0.1.0" (instance $witlet:base/types@0.1.0 (;0;) (type $ty-witlet:base/types@0.1.0)))
  (core module $main (;0;)
    (type (;0;) (func (param i32 i32 i32 i32) (result i32)))
    (type (;1;) (func (param i32 i32 i32) (result i32)))
    (type (;2;) (func (param i32) (result i32)))
    (type (;3;) (func (param i64 i32 i32) (result i32)))
    (memory (;0;) 2)
    (global $heap (;0;) (mut i32) i32.const 8192)
    (export "memory" (memory 0))
    (export "cabi_realloc" (func 0))
    (export "witlet:sink-metric/sink@0.1.0#push" (func 3))
    (func (;0;) (type 0) (param i32 i32 i32) (param $size i32) (result i32)
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
    (func $error (;1;) (type 1) (param $case i32) (param $at i32) (param $len i32) (result i32)
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
    (func $recurse (;2;) (type 2) (param i32) (result i32)
      local.get 0
      i32.const 1
      i32.add
      call $recurse
      i32.const 1
      i32.add
    )
    (func (;3;) (type 3) (param i64 i32) (param $len i32) (result i32)
      local.get $len
      i32.eqz
      if ;; label = @1
        i32.const 0
        i32.const 16
        i32.const 7
        call $error
        return
      end
      i32.const 1024
      i32.const 0
      i32.store8
      i32.const 1024
    )
    (data (;0;) (i32.const 16) "nothing")
    (@custom "witlet:manifest" (after data) "{\22capabilities\22:[],\22kind\22:\22sink-metric\22,\22name\22:\22test\22,\22sdk\22:\22none\22,\22state_version\22:0,\22track\22:\220.1\22,\22version\22:\221.0.0\22}")
    (@producers
      (processed-by "wit-component" "0.254.2")
    )
  )
  (alias export $witlet:base/types@0.1.0 "error" (type $error (;1;)))
  (type (;2;) (enum "counter" "gauge" "histogram" "summary" "unknown"))
  (type (;3;) (tuple string string))
  (type (;4;) (list 3))
  (type (;5;) (record (field "name" string) (field "labels" 4) (field "value" f64)))
  (type (;6;) (list 5))
  (type (;7;) (record (field "name" string) (field "help" string) (field "kind" 2) (field "samples" 6)))
  (core instance $main (;0;) (instantiate $main))
  (alias core export $main "memory" (core memory $memory (;0;)))
  (type (;8;) (list 7))
  (type (;9;) (result (error $error)))
  (type (;10;) (func (param "time" u64) (param "families" 8) (result 9)))
  (alias core export $main "witlet:sink-metric/sink@0.1.0#push" (core func $witlet:sink-metric/sink@0.1.0#push (;0;)))
  (alias core export $main "cabi_realloc" (core func $cabi_realloc (;1;)))
  (func $push (;0;) (type 10) (canon lift (core func $witlet:sink-metric/sink@0.1.0#push) (memory $memory) (realloc $cabi_realloc) string-encoding=utf8))
  (component $witlet:sink-metric/sink@0.1.0-shim-component (;0;)
    (type (;0;) (variant (case "invalid" string) (case "not-found" string) (case "denied" string) (case "unavailable" string) (case "timeout" string) (case "failed" string) (case "other" string)))
    (import "import-type-error" (type (;1;) (eq 0)))
    (type (;2;) (enum "counter" "gauge" "histogram" "summary" "unknown"))
    (import "import-type-kind" (type (;3;) (eq 2)))
    (type (;4;) (tuple string string))
    (type (;5;) (list 4))
    (type (;6;) (record (field "name" string) (field "labels" 5) (field "value" f64)))
    (import "import-type-sample" (type (;7;) (eq 6)))
    (type (;8;) (list 7))
    (type (;9;) (record (field "name" string) (field "help" string) (field "kind" 3) (field "samples" 8)))
    (import "import-type-family" (type (;10;) (eq 9)))
    (type (;11;) (list 10))
    (import "import-type-error0" (type (;12;) (eq 1)))
    (type (;13;) (result (error 12)))
    (type (;14;) (func (param "time" u64) (param "families" 11) (result 13)))
    (import "import-func-push" (func (;0;) (type 14)))
    (export (;15;) "error" (type 1))
    (type (;16;) (enum "counter" "gauge" "histogram" "summary" "unknown"))
    (export (;17;) "kind" (type 16))
    (type (;18;) (tuple string string))
    (type (;19;) (list 18))
    (type (;20;) (record (field "name" string) (field "labels" 19) (field "value" f64)))
    (export (;21;) "sample" (type 20))
    (type (;22;) (list 21))
    (type (;23;) (record (field "name" string) (field "help" string) (field "kind" 17) (field "samples" 22)))
    (export (;24;) "family" (type 23))
    (type (;25;) (list 24))
    (type (;26;) (result (error 15)))
    (type (;27;) (func (param "time" u64) (param "families" 25) (result 26)))
    (export (;1;) "push" (func 0) (func (type 27)))
  )
  (instance $witlet:sink-metric/sink@0.1.0-shim-instance (;1;) (instantiate $witlet:sink-metric/sink@0.1.0-shim-component
      (with "import-func-push" (func $push))
      (with "import-type-error" (type $error))
      (with "import-type-kind" (type 2))
      (with "import-type-sample" (type 5))
      (with "import-type-family" (type 7))
      (with "import-type-error0" (type $error))
    )
  )
  (export $witlet:sink-metric/sink@0.1.0 (;2;) "witlet:sink-metric/sink@0.1.0" (instance $witlet:sink-metric/sink@0.1.0-shim-instance))
  (@producers
    (processed-by "wit-component" "0.254.2")
  )
)
