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
    (type (;3;) (func (param i32 i32) (result i32)))
    (memory (;0;) 2)
    (global $heap (;0;) (mut i32) i32.const 8192)
    (export "memory" (memory 0))
    (export "cabi_realloc" (func 0))
    (export "witlet:sink-log/sink@0.1.0#push" (func 3))
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
    (func (;3;) (type 3) (param i32) (param $len i32) (result i32)
      local.get $len
      i32.const 2
      i32.gt_u
      if ;; label = @1
        i32.const 3
        i32.const 16
        i32.const 9
        call $error
        return
      end
      i32.const 1024
      i32.const 0
      i32.store8
      i32.const 1024
    )
    (data (;0;) (i32.const 16) "try again")
    (@custom "witlet:manifest" (after data) "{\22capabilities\22:[],\22kind\22:\22sink-log\22,\22name\22:\22test\22,\22sdk\22:\22none\22,\22state_version\22:0,\22track\22:\220.1\22,\22version\22:\221.0.0\22}")
    (@producers
      (processed-by "wit-component" "0.254.2")
    )
  )
  (alias export $witlet:base/types@0.1.0 "error" (type $error (;1;)))
  (type (;2;) (enum "stdout" "stderr"))
  (type (;3;) (record (field "time" u64) (field "namespace" string) (field "pod" string) (field "pod-uid" string) (field "container" string) (field "restart-count" u32) (field "output-stream" 2) (field "line" string)))
  (core instance $main (;0;) (instantiate $main))
  (alias core export $main "memory" (core memory $memory (;0;)))
  (type (;4;) (list 3))
  (type (;5;) (result (error $error)))
  (type (;6;) (func (param "batch" 4) (result 5)))
  (alias core export $main "witlet:sink-log/sink@0.1.0#push" (core func $witlet:sink-log/sink@0.1.0#push (;0;)))
  (alias core export $main "cabi_realloc" (core func $cabi_realloc (;1;)))
  (func $push (;0;) (type 6) (canon lift (core func $witlet:sink-log/sink@0.1.0#push) (memory $memory) (realloc $cabi_realloc) string-encoding=utf8))
  (component $witlet:sink-log/sink@0.1.0-shim-component (;0;)
    (type (;0;) (variant (case "invalid" string) (case "not-found" string) (case "denied" string) (case "unavailable" string) (case "timeout" string) (case "failed" string) (case "other" string)))
    (import "import-type-error" (type (;1;) (eq 0)))
    (type (;2;) (enum "stdout" "stderr"))
    (import "import-type-output-stream" (type (;3;) (eq 2)))
    (type (;4;) (record (field "time" u64) (field "namespace" string) (field "pod" string) (field "pod-uid" string) (field "container" string) (field "restart-count" u32) (field "output-stream" 3) (field "line" string)))
    (import "import-type-entry" (type (;5;) (eq 4)))
    (type (;6;) (list 5))
    (import "import-type-error0" (type (;7;) (eq 1)))
    (type (;8;) (result (error 7)))
    (type (;9;) (func (param "batch" 6) (result 8)))
    (import "import-func-push" (func (;0;) (type 9)))
    (export (;10;) "error" (type 1))
    (type (;11;) (enum "stdout" "stderr"))
    (export (;12;) "output-stream" (type 11))
    (type (;13;) (record (field "time" u64) (field "namespace" string) (field "pod" string) (field "pod-uid" string) (field "container" string) (field "restart-count" u32) (field "output-stream" 12) (field "line" string)))
    (export (;14;) "entry" (type 13))
    (type (;15;) (list 14))
    (type (;16;) (result (error 10)))
    (type (;17;) (func (param "batch" 15) (result 16)))
    (export (;1;) "push" (func 0) (func (type 17)))
  )
  (instance $witlet:sink-log/sink@0.1.0-shim-instance (;1;) (instantiate $witlet:sink-log/sink@0.1.0-shim-component
      (with "import-func-push" (func $push))
      (with "import-type-error" (type $error))
      (with "import-type-output-stream" (type 2))
      (with "import-type-entry" (type 3))
      (with "import-type-error0" (type $error))
    )
  )
  (export $witlet:sink-log/sink@0.1.0 (;2;) "witlet:sink-log/sink@0.1.0" (instance $witlet:sink-log/sink@0.1.0-shim-instance))
  (@producers
    (processed-by "wit-component" "0.254.2")
  )
)
