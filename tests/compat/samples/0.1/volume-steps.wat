(component
  (type $ty-witlet:base/types@0.1.0 (;0;)
    (instance
      (type (;0;) (variant (case "invalid" string) (case "not-found" string) (case "denied" string) (case "unavailable" string) (case "timeout" string) (case "failed" string) (case "other" string)))
      (export (;1;) "error" (type (eq 0)))
    )
  )
  (import "witlet:base/types@0.1.0" (instance $witlet:base/types@0.1.0 (;0;) (type $ty-witlet:base/types@0.1.0)))
  (alias export $witlet:base/types@0.1.0 "error" (type $error (;1;)))
  (type $ty-witlet:volume/files@0.1.0 (;2;)
    (instance
      (export (;0;) "volume-dir" (type (sub resource)))
      (alias outer 1 $error (type (;1;)))
      (export (;2;) "error" (type (eq 1)))
      (type (;3;) (borrow 0))
      (type (;4;) (result (error 2)))
      (type (;5;) (func (param "self" 3) (param "mode" u32) (result 4)))
      (export (;0;) "[method]volume-dir.create" (func (type 5)))
      (type (;6;) (func (param "self" 3) (result 4)))
      (export (;1;) "[method]volume-dir.destroy" (func (type 6)))
      (type (;7;) (list u8))
      (type (;8;) (func (param "self" 3) (param "path" string) (param "data" 7) (param "mode" u32) (result 4)))
      (export (;2;) "[method]volume-dir.write" (func (type 8)))
      (type (;9;) (func (param "self" 3) (param "path" string) (param "data" 7) (result 4)))
      (export (;3;) "[method]volume-dir.append" (func (type 9)))
    )
  )
  (import "witlet:volume/files@0.1.0" (instance $witlet:volume/files@0.1.0 (;1;) (type $ty-witlet:volume/files@0.1.0)))
  (type $ty-witlet:base/objects@0.1.0 (;3;)
    (instance
      (export (;0;) "pod" (type (sub resource)))
    )
  )
  (import "witlet:base/objects@0.1.0" (instance $witlet:base/objects@0.1.0 (;2;) (type $ty-witlet:base/objects@0.1.0)))
  (type $ty-witlet:volume-steps/steps@0.1.0 (;4;)
    (instance
      (export (;0;) "step" (type (sub resource)))
      (type (;1;) (borrow 0))
      (type (;2;) (func (param "self" 1) (result string)))
      (export (;0;) "[method]step.volume" (func (type 2)))
    )
  )
  (import "witlet:volume-steps/steps@0.1.0" (instance $witlet:volume-steps/steps@0.1.0 (;3;) (type $ty-witlet:volume-steps/steps@0.1.0)))
  (core module $main (;0;)
    (type (;0;) (func (param i32)))
    (type (;1;) (func (param i32 i32)))
    (type (;2;) (func (param i32 i32 i32)))
    (type (;3;) (func (param i32 i32 i32 i32 i32 i32 i32)))
    (type (;4;) (func (param i32 i32 i32 i32 i32 i32)))
    (type (;5;) (func (param i32 i32 i32 i32) (result i32)))
    (type (;6;) (func (param i32 i32 i32) (result i32)))
    (type (;7;) (func (param i32) (result i32)))
    (type (;8;) (func (param i32 i32) (result i32)))
    (type (;9;) (func (param i32 i32 i32 i32 i32) (result i32)))
    (type (;10;) (func (param i32 i32 i32 i32 i64) (result i32)))
    (import "witlet:base/objects@0.1.0" "[resource-drop]pod" (func $drop-pod (;0;) (type 0)))
    (import "witlet:volume-steps/steps@0.1.0" "[resource-drop]step" (func $drop-step (;1;) (type 0)))
    (import "witlet:volume-steps/steps@0.1.0" "[method]step.volume" (func $volume (;2;) (type 1)))
    (import "witlet:volume/files@0.1.0" "[resource-drop]volume-dir" (func $drop-dir (;3;) (type 0)))
    (import "witlet:volume/files@0.1.0" "[method]volume-dir.create" (func $create (;4;) (type 2)))
    (import "witlet:volume/files@0.1.0" "[method]volume-dir.write" (func $write (;5;) (type 3)))
    (import "witlet:volume/files@0.1.0" "[method]volume-dir.append" (func $append (;6;) (type 4)))
    (import "witlet:volume/files@0.1.0" "[method]volume-dir.destroy" (func $destroy (;7;) (type 1)))
    (memory (;0;) 2)
    (global $heap (;0;) (mut i32) i32.const 8192)
    (export "memory" (memory 0))
    (export "cabi_realloc" (func 8))
    (export "witlet:volume/driver@0.1.0#publish" (func 12))
    (export "witlet:volume/driver@0.1.0#unpublish" (func 13))
    (export "witlet:volume-steps/staging@0.1.0#stage" (func 14))
    (export "witlet:volume-steps/staging@0.1.0#publish" (func 15))
    (export "witlet:volume-steps/staging@0.1.0#unstage" (func 16))
    (export "witlet:volume-steps/expansion@0.1.0#expand" (func 17))
    (export "witlet:volume-steps/statistics@0.1.0#usage" (func 18))
    (func (;8;) (type 5) (param i32 i32 i32) (param $size i32) (result i32)
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
    (func $error (;9;) (type 6) (param $case i32) (param $at i32) (param $len i32) (result i32)
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
    (func $recurse (;10;) (type 7) (param i32) (result i32)
      local.get 0
      i32.const 1
      i32.add
      call $recurse
      i32.const 1
      i32.add
    )
    (func $done (;11;) (type 7) (param $dir i32) (result i32)
      local.get $dir
      call $drop-dir
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
      i32.const 1040
      i32.const 0
      i32.store8
      i32.const 1041
      i32.const 0
      i32.store8
      i32.const 1024
    )
    (func (;12;) (type 5) (param $pod i32) (param i32 i32) (param $dir i32) (result i32)
      local.get $pod
      call $drop-pod
      local.get $dir
      i32.const 448
      i32.const 128
      call $create
      local.get $dir
      call $done
    )
    (func (;13;) (type 7) (param $dir i32) (result i32)
      local.get $dir
      i32.const 128
      call $destroy
      local.get $dir
      call $done
    )
    (func (;14;) (type 8) (param $step i32) (param $dir i32) (result i32)
      local.get $step
      i32.const 200
      call $volume
      local.get $step
      call $drop-step
      local.get $dir
      i32.const 493
      i32.const 128
      call $create
      i32.const 128
      i32.load8_u
      if ;; label = @1
        local.get $dir
        call $done
        return
      end
      local.get $dir
      i32.const 16
      i32.const 6
      i32.const 200
      i32.load
      i32.const 204
      i32.load
      i32.const 420
      i32.const 128
      call $write
      i32.const 128
      i32.load8_u
      if ;; label = @1
        local.get $dir
        call $done
        return
      end
      local.get $dir
      i32.const 32
      i32.const 6
      i32.const 48
      i32.const 1
      i32.const 128
      call $append
      i32.const 128
      i32.load8_u
      if ;; label = @1
        local.get $dir
        i32.const 32
        i32.const 6
        i32.const 48
        i32.const 1
        i32.const 420
        i32.const 128
        call $write
      end
      local.get $dir
      call $done
    )
    (func (;15;) (type 9) (param $pod i32) (param $step i32) (param $some i32) (param $staging i32) (param $dir i32) (result i32)
      local.get $pod
      call $drop-pod
      local.get $step
      call $drop-step
      local.get $some
      if ;; label = @1
        local.get $staging
        call $drop-dir
      end
      local.get $dir
      i32.const 511
      i32.const 128
      call $create
      local.get $dir
      call $done
    )
    (func (;16;) (type 7) (param $dir i32) (result i32)
      local.get $dir
      i32.const 128
      call $destroy
      local.get $dir
      call $done
    )
    (func (;17;) (type 10) (param $step i32) (param $some i32) (param $staging i32) (param $dir i32) (param $bytes i64) (result i32)
      local.get $step
      call $drop-step
      local.get $some
      if ;; label = @1
        local.get $staging
        call $drop-dir
      end
      local.get $dir
      call $drop-dir
      local.get $bytes
      i64.const 2147483648
      i64.gt_u
      if ;; label = @1
        i32.const 0
        i32.const 64
        i32.const 9
        call $error
        return
      end
      i32.const 1024
      i32.const 0
      i32.store8
      i32.const 1024
    )
    (func (;18;) (type 7) (param $dir i32) (result i32)
      local.get $dir
      call $drop-dir
      i32.const 1024
      i32.const 0
      i32.store8
      i32.const 1032
      i64.const 100
      i64.store
      i32.const 1040
      i64.const 60
      i64.store
      i32.const 1048
      i64.const 40
      i64.store
      i32.const 1056
      i32.const 0
      i32.store8
      i32.const 1024
    )
    (data (;0;) (i32.const 16) "volume")
    (data (;1;) (i32.const 32) "stages")
    (data (;2;) (i32.const 48) "s")
    (data (;3;) (i32.const 64) "too large")
    (@custom "witlet:manifest" (after data) "{\22capabilities\22:[\22files\22],\22kind\22:\22volume\22,\22name\22:\22test\22,\22sdk\22:\22none\22,\22state_version\22:0,\22track\22:\220.1\22,\22version\22:\221.0.0\22}")
    (@producers
      (processed-by "wit-component" "0.254.2")
    )
  )
  (core module $wit-component-shim-module (;1;)
    (type (;0;) (func (param i32 i32)))
    (type (;1;) (func (param i32 i32 i32)))
    (type (;2;) (func (param i32 i32 i32 i32 i32 i32 i32)))
    (type (;3;) (func (param i32 i32 i32 i32 i32 i32)))
    (table (;0;) 5 5 funcref)
    (export "0" (func 0))
    (export "1" (func 1))
    (export "2" (func 2))
    (export "3" (func 3))
    (export "4" (func 4))
    (export "$imports" (table 0))
    (func (;0;) (type 0) (param i32 i32)
      local.get 0
      local.get 1
      i32.const 0
      call_indirect (type 0)
    )
    (func (;1;) (type 1) (param i32 i32 i32)
      local.get 0
      local.get 1
      local.get 2
      i32.const 1
      call_indirect (type 1)
    )
    (func (;2;) (type 2) (param i32 i32 i32 i32 i32 i32 i32)
      local.get 0
      local.get 1
      local.get 2
      local.get 3
      local.get 4
      local.get 5
      local.get 6
      i32.const 2
      call_indirect (type 2)
    )
    (func (;3;) (type 3) (param i32 i32 i32 i32 i32 i32)
      local.get 0
      local.get 1
      local.get 2
      local.get 3
      local.get 4
      local.get 5
      i32.const 3
      call_indirect (type 3)
    )
    (func (;4;) (type 0) (param i32 i32)
      local.get 0
      local.get 1
      i32.const 4
      call_indirect (type 0)
    )
    (@producers
      (processed-by "wit-component" "0.254.2")
    )
  )
  (core module $wit-component-fixup (;2;)
    (type (;0;) (func (param i32 i32)))
    (type (;1;) (func (param i32 i32 i32)))
    (type (;2;) (func (param i32 i32 i32 i32 i32 i32 i32)))
    (type (;3;) (func (param i32 i32 i32 i32 i32 i32)))
    (import "" "0" (func (;0;) (type 0)))
    (import "" "1" (func (;1;) (type 1)))
    (import "" "2" (func (;2;) (type 2)))
    (import "" "3" (func (;3;) (type 3)))
    (import "" "4" (func (;4;) (type 0)))
    (import "" "$imports" (table (;0;) 5 5 funcref))
    (elem (;0;) (i32.const 0) func 0 1 2 3 4)
    (@producers
      (processed-by "wit-component" "0.254.2")
    )
  )
  (core instance $wit-component-shim-instance (;0;) (instantiate $wit-component-shim-module))
  (alias export $witlet:base/types@0.1.0 "error" (type $"#type5 error" (@name "error") (;5;)))
  (alias export $witlet:base/objects@0.1.0 "pod" (type $pod (;6;)))
  (alias export $witlet:volume/files@0.1.0 "volume-dir" (type $volume-dir (;7;)))
  (alias export $witlet:volume-steps/steps@0.1.0 "step" (type $step (;8;)))
  (type (;9;) (option string))
  (type (;10;) (record (field "host-path" 9) (field "read-only" bool) (field "follows-source" bool)))
  (type (;11;) (record (field "total" u64) (field "available" u64) (field "used" u64)))
  (type (;12;) (option 11))
  (type (;13;) (record (field "bytes" 11) (field "inodes" 12)))
  (type (;14;) (record (field "host-path" 9) (field "read-only" bool) (field "follows-source" bool)))
  (alias export $witlet:base/objects@0.1.0 "pod" (type $"#type15 pod" (@name "pod") (;15;)))
  (core func $resource.drop (;0;) (canon resource.drop $"#type15 pod"))
  (core instance $witlet:base/objects@0.1.0 (;1;)
    (export "[resource-drop]pod" (func $resource.drop))
  )
  (alias export $witlet:volume-steps/steps@0.1.0 "step" (type $"#type16 step" (@name "step") (;16;)))
  (core func $"#core-func1 resource.drop" (@name "resource.drop") (;1;) (canon resource.drop $"#type16 step"))
  (alias core export $wit-component-shim-instance "0" (core func $"indirect-witlet:volume-steps/steps@0.1.0-[method]step.volume" (;2;)))
  (core instance $witlet:volume-steps/steps@0.1.0 (;2;)
    (export "[resource-drop]step" (func $"#core-func1 resource.drop"))
    (export "[method]step.volume" (func $"indirect-witlet:volume-steps/steps@0.1.0-[method]step.volume"))
  )
  (alias export $witlet:volume/files@0.1.0 "volume-dir" (type $"#type17 volume-dir" (@name "volume-dir") (;17;)))
  (core func $"#core-func3 resource.drop" (@name "resource.drop") (;3;) (canon resource.drop $"#type17 volume-dir"))
  (alias core export $wit-component-shim-instance "1" (core func $"indirect-witlet:volume/files@0.1.0-[method]volume-dir.create" (;4;)))
  (alias core export $wit-component-shim-instance "2" (core func $"indirect-witlet:volume/files@0.1.0-[method]volume-dir.write" (;5;)))
  (alias core export $wit-component-shim-instance "3" (core func $"indirect-witlet:volume/files@0.1.0-[method]volume-dir.append" (;6;)))
  (alias core export $wit-component-shim-instance "4" (core func $"indirect-witlet:volume/files@0.1.0-[method]volume-dir.destroy" (;7;)))
  (core instance $witlet:volume/files@0.1.0 (;3;)
    (export "[resource-drop]volume-dir" (func $"#core-func3 resource.drop"))
    (export "[method]volume-dir.create" (func $"indirect-witlet:volume/files@0.1.0-[method]volume-dir.create"))
    (export "[method]volume-dir.write" (func $"indirect-witlet:volume/files@0.1.0-[method]volume-dir.write"))
    (export "[method]volume-dir.append" (func $"indirect-witlet:volume/files@0.1.0-[method]volume-dir.append"))
    (export "[method]volume-dir.destroy" (func $"indirect-witlet:volume/files@0.1.0-[method]volume-dir.destroy"))
  )
  (core instance $main (;4;) (instantiate $main
      (with "witlet:base/objects@0.1.0" (instance $witlet:base/objects@0.1.0))
      (with "witlet:volume-steps/steps@0.1.0" (instance $witlet:volume-steps/steps@0.1.0))
      (with "witlet:volume/files@0.1.0" (instance $witlet:volume/files@0.1.0))
    )
  )
  (alias core export $main "memory" (core memory $memory (;0;)))
  (alias core export $wit-component-shim-instance "$imports" (core table $"shim table" (;0;)))
  (alias export $witlet:volume-steps/steps@0.1.0 "[method]step.volume" (func $"[method]step.volume" (;0;)))
  (alias core export $main "cabi_realloc" (core func $realloc (;8;)))
  (core func $"#core-func9 indirect-witlet:volume-steps/steps@0.1.0-[method]step.volume" (@name "indirect-witlet:volume-steps/steps@0.1.0-[method]step.volume") (;9;) (canon lower (func $"[method]step.volume") (memory $memory) (realloc $realloc) string-encoding=utf8))
  (alias export $witlet:volume/files@0.1.0 "[method]volume-dir.create" (func $"[method]volume-dir.create" (;1;)))
  (core func $"#core-func10 indirect-witlet:volume/files@0.1.0-[method]volume-dir.create" (@name "indirect-witlet:volume/files@0.1.0-[method]volume-dir.create") (;10;) (canon lower (func $"[method]volume-dir.create") (memory $memory) (realloc $realloc) string-encoding=utf8))
  (alias export $witlet:volume/files@0.1.0 "[method]volume-dir.write" (func $"[method]volume-dir.write" (;2;)))
  (core func $"#core-func11 indirect-witlet:volume/files@0.1.0-[method]volume-dir.write" (@name "indirect-witlet:volume/files@0.1.0-[method]volume-dir.write") (;11;) (canon lower (func $"[method]volume-dir.write") (memory $memory) (realloc $realloc) string-encoding=utf8))
  (alias export $witlet:volume/files@0.1.0 "[method]volume-dir.append" (func $"[method]volume-dir.append" (;3;)))
  (core func $"#core-func12 indirect-witlet:volume/files@0.1.0-[method]volume-dir.append" (@name "indirect-witlet:volume/files@0.1.0-[method]volume-dir.append") (;12;) (canon lower (func $"[method]volume-dir.append") (memory $memory) (realloc $realloc) string-encoding=utf8))
  (alias export $witlet:volume/files@0.1.0 "[method]volume-dir.destroy" (func $"[method]volume-dir.destroy" (;4;)))
  (core func $"#core-func13 indirect-witlet:volume/files@0.1.0-[method]volume-dir.destroy" (@name "indirect-witlet:volume/files@0.1.0-[method]volume-dir.destroy") (;13;) (canon lower (func $"[method]volume-dir.destroy") (memory $memory) (realloc $realloc) string-encoding=utf8))
  (core instance $fixup-args (;5;)
    (export "$imports" (table $"shim table"))
    (export "0" (func $"#core-func9 indirect-witlet:volume-steps/steps@0.1.0-[method]step.volume"))
    (export "1" (func $"#core-func10 indirect-witlet:volume/files@0.1.0-[method]volume-dir.create"))
    (export "2" (func $"#core-func11 indirect-witlet:volume/files@0.1.0-[method]volume-dir.write"))
    (export "3" (func $"#core-func12 indirect-witlet:volume/files@0.1.0-[method]volume-dir.append"))
    (export "4" (func $"#core-func13 indirect-witlet:volume/files@0.1.0-[method]volume-dir.destroy"))
  )
  (core instance $fixup (;6;) (instantiate $wit-component-fixup
      (with "" (instance $fixup-args))
    )
  )
  (type (;18;) (borrow $step))
  (type (;19;) (borrow $volume-dir))
  (type (;20;) (result (error $"#type5 error")))
  (type (;21;) (func (param "step" 18) (param "staging" 19) (result 20)))
  (alias core export $main "witlet:volume-steps/staging@0.1.0#stage" (core func $witlet:volume-steps/staging@0.1.0#stage (;14;)))
  (func $stage (;5;) (type 21) (canon lift (core func $witlet:volume-steps/staging@0.1.0#stage) (memory $memory) string-encoding=utf8))
  (type (;22;) (borrow $pod))
  (type (;23;) (option 19))
  (type (;24;) (result 10 (error $"#type5 error")))
  (type (;25;) (func (param "pod" 22) (param "step" 18) (param "staging" 23) (param "target" 19) (result 24)))
  (alias core export $main "witlet:volume-steps/staging@0.1.0#publish" (core func $witlet:volume-steps/staging@0.1.0#publish (;15;)))
  (func $publish (;6;) (type 25) (canon lift (core func $witlet:volume-steps/staging@0.1.0#publish) (memory $memory) string-encoding=utf8))
  (type (;26;) (func (param "staging" 19) (result 20)))
  (alias core export $main "witlet:volume-steps/staging@0.1.0#unstage" (core func $witlet:volume-steps/staging@0.1.0#unstage (;16;)))
  (func $unstage (;7;) (type 26) (canon lift (core func $witlet:volume-steps/staging@0.1.0#unstage) (memory $memory) string-encoding=utf8))
  (component $witlet:volume-steps/staging@0.1.0-shim-component (;0;)
    (type (;0;) (variant (case "invalid" string) (case "not-found" string) (case "denied" string) (case "unavailable" string) (case "timeout" string) (case "failed" string) (case "other" string)))
    (import "import-type-error" (type (;1;) (eq 0)))
    (import "import-type-pod" (type (;2;) (sub resource)))
    (import "import-type-volume-dir" (type (;3;) (sub resource)))
    (import "import-type-step" (type (;4;) (sub resource)))
    (import "import-type-step0" (type (;5;) (eq 4)))
    (type (;6;) (borrow 5))
    (import "import-type-volume-dir0" (type (;7;) (eq 3)))
    (type (;8;) (borrow 7))
    (import "import-type-error0" (type (;9;) (eq 1)))
    (type (;10;) (result (error 9)))
    (type (;11;) (func (param "step" 6) (param "staging" 8) (result 10)))
    (import "import-func-stage" (func (;0;) (type 11)))
    (import "import-type-pod0" (type (;12;) (eq 2)))
    (type (;13;) (borrow 12))
    (type (;14;) (option 8))
    (type (;15;) (option string))
    (type (;16;) (record (field "host-path" 15) (field "read-only" bool) (field "follows-source" bool)))
    (import "import-type-published" (type (;17;) (eq 16)))
    (type (;18;) (result 17 (error 9)))
    (type (;19;) (func (param "pod" 13) (param "step" 6) (param "staging" 14) (param "target" 8) (result 18)))
    (import "import-func-publish" (func (;1;) (type 19)))
    (type (;20;) (func (param "staging" 8) (result 10)))
    (import "import-func-unstage" (func (;2;) (type 20)))
    (export (;21;) "error" (type 1))
    (export (;22;) "pod" (type 2))
    (export (;23;) "volume-dir" (type 3))
    (export (;24;) "step" (type 4))
    (type (;25;) (option string))
    (type (;26;) (record (field "host-path" 25) (field "read-only" bool) (field "follows-source" bool)))
    (export (;27;) "published" (type 26))
    (type (;28;) (borrow 24))
    (type (;29;) (borrow 23))
    (type (;30;) (result (error 21)))
    (type (;31;) (func (param "step" 28) (param "staging" 29) (result 30)))
    (export (;3;) "stage" (func 0) (func (type 31)))
    (type (;32;) (borrow 22))
    (type (;33;) (option 29))
    (type (;34;) (result 27 (error 21)))
    (type (;35;) (func (param "pod" 32) (param "step" 28) (param "staging" 33) (param "target" 29) (result 34)))
    (export (;4;) "publish" (func 1) (func (type 35)))
    (type (;36;) (func (param "staging" 29) (result 30)))
    (export (;5;) "unstage" (func 2) (func (type 36)))
  )
  (instance $witlet:volume-steps/staging@0.1.0-shim-instance (;4;) (instantiate $witlet:volume-steps/staging@0.1.0-shim-component
      (with "import-func-stage" (func $stage))
      (with "import-func-publish" (func $publish))
      (with "import-func-unstage" (func $unstage))
      (with "import-type-error" (type $"#type5 error"))
      (with "import-type-pod" (type $pod))
      (with "import-type-volume-dir" (type $volume-dir))
      (with "import-type-step" (type $step))
      (with "import-type-step0" (type $step))
      (with "import-type-volume-dir0" (type $volume-dir))
      (with "import-type-error0" (type $"#type5 error"))
      (with "import-type-pod0" (type $pod))
      (with "import-type-published" (type 10))
    )
  )
  (export $witlet:volume-steps/staging@0.1.0 (;5;) "witlet:volume-steps/staging@0.1.0" (instance $witlet:volume-steps/staging@0.1.0-shim-instance))
  (type (;27;) (borrow $step))
  (type (;28;) (borrow $volume-dir))
  (type (;29;) (option 28))
  (type (;30;) (result (error $"#type5 error")))
  (type (;31;) (func (param "step" 27) (param "staging" 29) (param "target" 28) (param "bytes" u64) (result 30)))
  (alias core export $main "witlet:volume-steps/expansion@0.1.0#expand" (core func $witlet:volume-steps/expansion@0.1.0#expand (;17;)))
  (func $expand (;8;) (type 31) (canon lift (core func $witlet:volume-steps/expansion@0.1.0#expand) (memory $memory) string-encoding=utf8))
  (component $witlet:volume-steps/expansion@0.1.0-shim-component (;1;)
    (type (;0;) (variant (case "invalid" string) (case "not-found" string) (case "denied" string) (case "unavailable" string) (case "timeout" string) (case "failed" string) (case "other" string)))
    (import "import-type-error" (type (;1;) (eq 0)))
    (import "import-type-volume-dir" (type (;2;) (sub resource)))
    (import "import-type-step" (type (;3;) (sub resource)))
    (import "import-type-step0" (type (;4;) (eq 3)))
    (type (;5;) (borrow 4))
    (import "import-type-volume-dir0" (type (;6;) (eq 2)))
    (type (;7;) (borrow 6))
    (type (;8;) (option 7))
    (import "import-type-error0" (type (;9;) (eq 1)))
    (type (;10;) (result (error 9)))
    (type (;11;) (func (param "step" 5) (param "staging" 8) (param "target" 7) (param "bytes" u64) (result 10)))
    (import "import-func-expand" (func (;0;) (type 11)))
    (export (;12;) "error" (type 1))
    (export (;13;) "volume-dir" (type 2))
    (export (;14;) "step" (type 3))
    (type (;15;) (borrow 14))
    (type (;16;) (borrow 13))
    (type (;17;) (option 16))
    (type (;18;) (result (error 12)))
    (type (;19;) (func (param "step" 15) (param "staging" 17) (param "target" 16) (param "bytes" u64) (result 18)))
    (export (;1;) "expand" (func 0) (func (type 19)))
  )
  (instance $witlet:volume-steps/expansion@0.1.0-shim-instance (;6;) (instantiate $witlet:volume-steps/expansion@0.1.0-shim-component
      (with "import-func-expand" (func $expand))
      (with "import-type-error" (type $"#type5 error"))
      (with "import-type-volume-dir" (type $volume-dir))
      (with "import-type-step" (type $step))
      (with "import-type-step0" (type $step))
      (with "import-type-volume-dir0" (type $volume-dir))
      (with "import-type-error0" (type $"#type5 error"))
    )
  )
  (export $witlet:volume-steps/expansion@0.1.0 (;7;) "witlet:volume-steps/expansion@0.1.0" (instance $witlet:volume-steps/expansion@0.1.0-shim-instance))
  (type (;32;) (borrow $volume-dir))
  (type (;33;) (result 13 (error $"#type5 error")))
  (type (;34;) (func (param "target" 32) (result 33)))
  (alias core export $main "witlet:volume-steps/statistics@0.1.0#usage" (core func $witlet:volume-steps/statistics@0.1.0#usage (;18;)))
  (func $usage (;9;) (type 34) (canon lift (core func $witlet:volume-steps/statistics@0.1.0#usage) (memory $memory) string-encoding=utf8))
  (component $witlet:volume-steps/statistics@0.1.0-shim-component (;2;)
    (type (;0;) (variant (case "invalid" string) (case "not-found" string) (case "denied" string) (case "unavailable" string) (case "timeout" string) (case "failed" string) (case "other" string)))
    (import "import-type-error" (type (;1;) (eq 0)))
    (import "import-type-volume-dir" (type (;2;) (sub resource)))
    (import "import-type-volume-dir0" (type (;3;) (eq 2)))
    (type (;4;) (borrow 3))
    (type (;5;) (record (field "total" u64) (field "available" u64) (field "used" u64)))
    (import "import-type-amount" (type (;6;) (eq 5)))
    (type (;7;) (option 6))
    (type (;8;) (record (field "bytes" 6) (field "inodes" 7)))
    (import "import-type-volume-usage" (type (;9;) (eq 8)))
    (import "import-type-error0" (type (;10;) (eq 1)))
    (type (;11;) (result 9 (error 10)))
    (type (;12;) (func (param "target" 4) (result 11)))
    (import "import-func-usage" (func (;0;) (type 12)))
    (export (;13;) "error" (type 1))
    (export (;14;) "volume-dir" (type 2))
    (type (;15;) (record (field "total" u64) (field "available" u64) (field "used" u64)))
    (export (;16;) "amount" (type 15))
    (type (;17;) (option 16))
    (type (;18;) (record (field "bytes" 16) (field "inodes" 17)))
    (export (;19;) "volume-usage" (type 18))
    (type (;20;) (borrow 14))
    (type (;21;) (result 19 (error 13)))
    (type (;22;) (func (param "target" 20) (result 21)))
    (export (;1;) "usage" (func 0) (func (type 22)))
  )
  (instance $witlet:volume-steps/statistics@0.1.0-shim-instance (;8;) (instantiate $witlet:volume-steps/statistics@0.1.0-shim-component
      (with "import-func-usage" (func $usage))
      (with "import-type-error" (type $"#type5 error"))
      (with "import-type-volume-dir" (type $volume-dir))
      (with "import-type-volume-dir0" (type $volume-dir))
      (with "import-type-amount" (type 11))
      (with "import-type-volume-usage" (type 13))
      (with "import-type-error0" (type $"#type5 error"))
    )
  )
  (export $witlet:volume-steps/statistics@0.1.0 (;9;) "witlet:volume-steps/statistics@0.1.0" (instance $witlet:volume-steps/statistics@0.1.0-shim-instance))
  (type (;35;) (borrow $pod))
  (type (;36;) (borrow $volume-dir))
  (type (;37;) (result 14 (error $"#type5 error")))
  (type (;38;) (func (param "pod" 35) (param "volume" string) (param "target" 36) (result 37)))
  (alias core export $main "witlet:volume/driver@0.1.0#publish" (core func $witlet:volume/driver@0.1.0#publish (;19;)))
  (func $"#func10 publish" (@name "publish") (;10;) (type 38) (canon lift (core func $witlet:volume/driver@0.1.0#publish) (memory $memory) (realloc $realloc) string-encoding=utf8))
  (type (;39;) (result (error $"#type5 error")))
  (type (;40;) (func (param "target" 36) (result 39)))
  (alias core export $main "witlet:volume/driver@0.1.0#unpublish" (core func $witlet:volume/driver@0.1.0#unpublish (;20;)))
  (func $unpublish (;11;) (type 40) (canon lift (core func $witlet:volume/driver@0.1.0#unpublish) (memory $memory) string-encoding=utf8))
  (component $witlet:volume/driver@0.1.0-shim-component (;3;)
    (type (;0;) (variant (case "invalid" string) (case "not-found" string) (case "denied" string) (case "unavailable" string) (case "timeout" string) (case "failed" string) (case "other" string)))
    (import "import-type-error" (type (;1;) (eq 0)))
    (import "import-type-pod" (type (;2;) (sub resource)))
    (import "import-type-volume-dir" (type (;3;) (sub resource)))
    (import "import-type-pod0" (type (;4;) (eq 2)))
    (type (;5;) (borrow 4))
    (import "import-type-volume-dir0" (type (;6;) (eq 3)))
    (type (;7;) (borrow 6))
    (type (;8;) (option string))
    (type (;9;) (record (field "host-path" 8) (field "read-only" bool) (field "follows-source" bool)))
    (import "import-type-published" (type (;10;) (eq 9)))
    (import "import-type-error0" (type (;11;) (eq 1)))
    (type (;12;) (result 10 (error 11)))
    (type (;13;) (func (param "pod" 5) (param "volume" string) (param "target" 7) (result 12)))
    (import "import-func-publish" (func (;0;) (type 13)))
    (type (;14;) (result (error 11)))
    (type (;15;) (func (param "target" 7) (result 14)))
    (import "import-func-unpublish" (func (;1;) (type 15)))
    (export (;16;) "error" (type 1))
    (export (;17;) "pod" (type 2))
    (export (;18;) "volume-dir" (type 3))
    (type (;19;) (option string))
    (type (;20;) (record (field "host-path" 19) (field "read-only" bool) (field "follows-source" bool)))
    (export (;21;) "published" (type 20))
    (type (;22;) (borrow 17))
    (type (;23;) (borrow 18))
    (type (;24;) (result 21 (error 16)))
    (type (;25;) (func (param "pod" 22) (param "volume" string) (param "target" 23) (result 24)))
    (export (;2;) "publish" (func 0) (func (type 25)))
    (type (;26;) (result (error 16)))
    (type (;27;) (func (param "target" 23) (result 26)))
    (export (;3;) "unpublish" (func 1) (func (type 27)))
  )
  (instance $witlet:volume/driver@0.1.0-shim-instance (;10;) (instantiate $witlet:volume/driver@0.1.0-shim-component
      (with "import-func-publish" (func $"#func10 publish"))
      (with "import-func-unpublish" (func $unpublish))
      (with "import-type-error" (type $"#type5 error"))
      (with "import-type-pod" (type $pod))
      (with "import-type-volume-dir" (type $volume-dir))
      (with "import-type-pod0" (type $pod))
      (with "import-type-volume-dir0" (type $volume-dir))
      (with "import-type-published" (type 14))
      (with "import-type-error0" (type $"#type5 error"))
    )
  )
  (export $witlet:volume/driver@0.1.0 (;11;) "witlet:volume/driver@0.1.0" (instance $witlet:volume/driver@0.1.0-shim-instance))
  (@producers
    (processed-by "wit-component" "0.254.2")
  )
)
