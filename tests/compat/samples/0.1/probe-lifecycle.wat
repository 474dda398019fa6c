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
      (export (;1;) "container" (type (sub resource)))
    )
  )
  (import "witlet:base/objects@0.1.0" (instance $witlet:base/objects@0.1.0 (;1;) (type $ty-witlet:base/objects@0.1.0)))
  (core module $main (;0;)
    (type (;0;) (func (param i32)))
    (type (;1;) (func (param i32 i32 i32 i32) (result i32)))
    (type (;2;) (func (param i32 i32 i32) (result i32)))
    (type (;3;) (func (param i32) (result i32)))
    (type (;4;) (func (param i32 i32 i32 i32 i32) (result i32)))
    (type (;5;) (func (result i32)))
    (import "witlet:base/objects@0.1.0" "[resource-drop]pod" (func $drop-pod (;0;) (type 0)))
    (import "witlet:base/objects@0.1.0" "[resource-drop]container" (func $drop-container (;1;) (type 0)))
    (memory (;0;) 2)
    (global $heap (;0;) (mut i32) i32.const 8192)
    (global $calls (;1;) (mut i32) i32.const 0)
    (export "memory" (memory 0))
    (export "cabi_realloc" (func 2))
    (export "witlet:probe/probe@0.1.0#check" (func 6))
    (export "witlet:lifecycle/state@0.1.0#export-state" (func 7))
    (export "witlet:lifecycle/state@0.1.0#import-state" (func 8))
    (export "witlet:lifecycle/self-check@0.1.0#run" (func 9))
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
    (func $outcome (;5;) (type 2) (param $verdict i32) (param $at i32) (param $len i32) (result i32)
      i32.const 1024
      i32.const 0
      i32.store8
      i32.const 1028
      local.get $verdict
      i32.store8
      i32.const 1032
      local.get $at
      i32.store
      i32.const 1036
      local.get $len
      i32.store
      i32.const 1024
    )
    (func (;6;) (type 4) (param $pod i32) (param $container i32) (param $params i32) (param i32 i32) (result i32)
      (local $mood i32)
      local.get $params
      i32.load8_u
      local.set $mood
      local.get $container
      call $drop-container
      local.get $mood
      i32.const 75
      i32.eq
      if ;; label = @1
        i32.const 0
        i32.const 16
        i32.const 1
        call $outcome
        return
      end
      local.get $pod
      call $drop-pod
      local.get $mood
      i32.const 80
      i32.eq
      if ;; label = @1
        i32.const 0
        i32.const 16
        i32.const 1
        call $outcome
        return
      end
      local.get $mood
      i32.const 70
      i32.eq
      if ;; label = @1
        i32.const 2
        i32.const 16
        i32.const 1
        call $outcome
        return
      end
      local.get $mood
      i32.const 69
      i32.eq
      if ;; label = @1
        i32.const 0
        i32.const 512
        i32.const 20
        call $error
        return
      end
      local.get $mood
      i32.const 84
      i32.eq
      if ;; label = @1
        unreachable
      end
      local.get $mood
      i32.const 76
      i32.eq
      if ;; label = @1
        loop $for-ever
          br $for-ever
        end
      end
      local.get $mood
      i32.const 77
      i32.eq
      if ;; label = @1
        loop $more
          i32.const 16
          memory.grow
          drop
          br $more
        end
      end
      local.get $mood
      i32.const 72
      i32.eq
      if ;; label = @1
        i32.const 40
        memory.grow
        drop
        i32.const 0
        i32.const 131072
        i32.const 2097152
        call $outcome
        return
      end
      local.get $mood
      i32.const 82
      i32.eq
      if ;; label = @1
        i32.const 0
        call $recurse
        drop
      end
      local.get $mood
      i32.const 66
      i32.eq
      if ;; label = @1
        i32.const 0
        i32.const -16
        i32.const 1024
        call $outcome
        return
      end
      local.get $mood
      i32.const 85
      i32.eq
      if ;; label = @1
        i32.const 0
        i32.const 600
        i32.const 2
        call $outcome
        return
      end
      local.get $mood
      i32.const 67
      i32.eq
      if ;; label = @1
        global.get $calls
        i32.const 1
        i32.add
        global.set $calls
        i32.const 700
        global.get $calls
        i32.const 48
        i32.add
        i32.store8
        i32.const 0
        i32.const 700
        i32.const 1
        call $outcome
        return
      end
      unreachable
    )
    (func (;7;) (type 5) (result i32)
      i32.const 700
      global.get $calls
      i32.store8
      i32.const 1024
      i32.const 0
      i32.store8
      i32.const 1028
      i32.const 1
      i32.store
      i32.const 1032
      i32.const 700
      i32.store
      i32.const 1036
      i32.const 1
      i32.store
      i32.const 1024
    )
    (func (;8;) (type 2) (param $form i32) (param $at i32) (param i32) (result i32)
      i32.const 1024
      i32.const 0
      i32.store
      local.get $form
      i32.const 1
      i32.ne
      if ;; label = @1
        i32.const 1024
        i32.const 1
        i32.store8
        i32.const 1028
        i32.const 2048
        i32.store
        i32.const 1032
        i32.const 12
        i32.store
      else
        local.get $at
        i32.load8_u
        global.set $calls
      end
      i32.const 1024
    )
    (func (;9;) (type 5) (result i32)
      i32.const 1024
      i32.const 0
      i32.store
      i32.const 1024
    )
    (data (;0;) (i32.const 16) "x")
    (data (;1;) (i32.const 512) "the text of an error")
    (data (;2;) (i32.const 600) "\ff\fe")
    (data (;3;) (i32.const 2048) "another form")
    (@custom "witlet:manifest" (after data) "{\22capabilities\22:[],\22kind\22:\22probe\22,\22name\22:\22test\22,\22sdk\22:\22none\22,\22state_version\22:0,\22track\22:\220.1\22,\22version\22:\221.0.0\22}")
    (@producers
      (processed-by "wit-component" "0.254.2")
    )
  )
  (type (;2;) (list u8))
  (type (;3;) (record (field "version" u32) (field "data" 2)))
  (alias export $witlet:base/types@0.1.0 "error" (type $error (;4;)))
  (alias export $witlet:base/objects@0.1.0 "pod" (type $pod (;5;)))
  (alias export $witlet:base/objects@0.1.0 "container" (type $container (;6;)))
  (type (;7;) (enum "pass" "warn" "fail" "unknown"))
  (type (;8;) (record (field "verdict" 7) (field "message" string)))
  (alias export $witlet:base/objects@0.1.0 "pod" (type $"#type9 pod" (@name "pod") (;9;)))
  (core func $resource.drop (;0;) (canon resource.drop $"#type9 pod"))
  (alias export $witlet:base/objects@0.1.0 "container" (type $"#type10 container" (@name "container") (;10;)))
  (core func $"#core-func1 resource.drop" (@name "resource.drop") (;1;) (canon resource.drop $"#type10 container"))
  (core instance $witlet:base/objects@0.1.0 (;0;)
    (export "[resource-drop]pod" (func $resource.drop))
    (export "[resource-drop]container" (func $"#core-func1 resource.drop"))
  )
  (core instance $main (;1;) (instantiate $main
      (with "witlet:base/objects@0.1.0" (instance $witlet:base/objects@0.1.0))
    )
  )
  (alias core export $main "memory" (core memory $memory (;0;)))
  (type (;11;) (result (error string)))
  (type (;12;) (func (result 11)))
  (alias core export $main "witlet:lifecycle/self-check@0.1.0#run" (core func $witlet:lifecycle/self-check@0.1.0#run (;2;)))
  (alias core export $main "cabi_realloc" (core func $cabi_realloc (;3;)))
  (func $run (;0;) (type 12) (canon lift (core func $witlet:lifecycle/self-check@0.1.0#run) (memory $memory) string-encoding=utf8))
  (component $witlet:lifecycle/self-check@0.1.0-shim-component (;0;)
    (type (;0;) (result (error string)))
    (type (;1;) (func (result 0)))
    (import "import-func-run" (func (;0;) (type 1)))
    (type (;2;) (result (error string)))
    (type (;3;) (func (result 2)))
    (export (;1;) "run" (func 0) (func (type 3)))
  )
  (instance $witlet:lifecycle/self-check@0.1.0-shim-instance (;2;) (instantiate $witlet:lifecycle/self-check@0.1.0-shim-component
      (with "import-func-run" (func $run))
    )
  )
  (export $witlet:lifecycle/self-check@0.1.0 (;3;) "witlet:lifecycle/self-check@0.1.0" (instance $witlet:lifecycle/self-check@0.1.0-shim-instance))
  (type (;13;) (result 3 (error string)))
  (type (;14;) (func (result 13)))
  (alias core export $main "witlet:lifecycle/state@0.1.0#export-state" (core func $witlet:lifecycle/state@0.1.0#export-state (;4;)))
  (func $export-state (;1;) (type 14) (canon lift (core func $witlet:lifecycle/state@0.1.0#export-state) (memory $memory) string-encoding=utf8))
  (type (;15;) (func (param "state" 3) (result 11)))
  (alias core export $main "witlet:lifecycle/state@0.1.0#import-state" (core func $witlet:lifecycle/state@0.1.0#import-state (;5;)))
  (func $import-state (;2;) (type 15) (canon lift (core func $witlet:lifecycle/state@0.1.0#import-state) (memory $memory) (realloc $cabi_realloc) string-encoding=utf8))
  (component $witlet:lifecycle/state@0.1.0-shim-component (;1;)
    (type (;0;) (list u8))
    (type (;1;) (record (field "version" u32) (field "data" 0)))
    (import "import-type-snapshot" (type (;2;) (eq 1)))
    (type (;3;) (result 2 (error string)))
    (type (;4;) (func (result 3)))
    (import "import-func-export-state" (func (;0;) (type 4)))
    (type (;5;) (result (error string)))
    (type (;6;) (func (param "state" 2) (result 5)))
    (import "import-func-import-state" (func (;1;) (type 6)))
    (type (;7;) (list u8))
    (type (;8;) (record (field "version" u32) (field "data" 7)))
    (export (;9;) "snapshot" (type 8))
    (type (;10;) (result 9 (error string)))
    (type (;11;) (func (result 10)))
    (export (;2;) "export-state" (func 0) (func (type 11)))
    (type (;12;) (result (error string)))
    (type (;13;) (func (param "state" 9) (result 12)))
    (export (;3;) "import-state" (func 1) (func (type 13)))
  )
  (instance $witlet:lifecycle/state@0.1.0-shim-instance (;4;) (instantiate $witlet:lifecycle/state@0.1.0-shim-component
      (with "import-func-export-state" (func $export-state))
      (with "import-func-import-state" (func $import-state))
      (with "import-type-snapshot" (type 3))
    )
  )
  (export $witlet:lifecycle/state@0.1.0 (;5;) "witlet:lifecycle/state@0.1.0" (instance $witlet:lifecycle/state@0.1.0-shim-instance))
  (type (;16;) (borrow $pod))
  (type (;17;) (borrow $container))
  (type (;18;) (result 8 (error $error)))
  (type (;19;) (func (param "pod" 16) (param "container" 17) (param "params" string) (param "timeout-ms" u32) (result 18)))
  (alias core export $main "witlet:probe/probe@0.1.0#check" (core func $witlet:probe/probe@0.1.0#check (;6;)))
  (func $check (;3;) (type 19) (canon lift (core func $witlet:probe/probe@0.1.0#check) (memory $memory) (realloc $cabi_realloc) string-encoding=utf8))
  (component $witlet:probe/probe@0.1.0-shim-component (;2;)
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
  (instance $witlet:probe/probe@0.1.0-shim-instance (;6;) (instantiate $witlet:probe/probe@0.1.0-shim-component
      (with "import-func-check" (func $check))
      (with "import-type-error" (type $error))
      (with "import-type-pod" (type $pod))
      (with "import-type-container" (type $container))
      (with "import-type-pod0" (type $pod))
      (with "import-type-container0" (type $container))
      (with "import-type-verdict" (type 7))
      (with "import-type-outcome" (type 8))
      (with "import-type-error0" (type $error))
    )
  )
  (export $witlet:probe/probe@0.1.0 (;7;) "witlet:probe/probe@0.1.0" (instance $witlet:probe/probe@0.1.0-shim-instance))
  (@producers
    (processed-by "wit-component" "0.254.2")
  )
)
