-- Builds what scripts see. Runs once per Vm, before any script; called with
--   builtin: LuaJIT's own globals
--   native:  functions written in Rust
--   module:  redis, cjson, cmsgpack, struct as plain tables
-- and returns the environment of scripts, the plain table behind it, and what libraries of functions need.
--
-- Redis's Lua has read-only tables; LuaJIT has none. Here a protected table is an empty table whose metatable reads
-- from a hidden one and refuses writes. The few functions that look at tables raw (next, pairs, rawget, rawset,
-- setmetatable, getmetatable, table.insert) know of protected tables. The rest would find them empty, and has nothing
-- to write then.
local builtin, native, module = ...

local type, error, tostring, select = builtin.type, builtin.error, builtin.tostring, builtin.select
local rawpairs, rawnext, rawget, rawset = builtin.pairs, builtin.next, builtin.rawget, builtin.rawset
local setmetatable, getmetatable = builtin.setmetatable, builtin.getmetatable
local rawinsert = builtin.table.insert
local pcall = builtin.pcall
local READONLY = 'Attempt to modify a readonly table'

-- The table behind a protected one, and what getmetatable shows of it.
local behind, shown = {}, {}

local function refuse()
  error(READONLY, 2)
end

local function protect(contents, index)
  local outside = {}
  local inside = contents
  if index then
    setmetatable(inside, {__index = index})
    shown[outside] = protect({__index = index})
  end
  behind[outside] = inside
  -- The field __metatable also keeps the builtin setmetatable from touching it.
  local meta = {__index = inside, __newindex = refuse, __metatable = false}
  return setmetatable(outside, meta), meta
end

local function missing(_, name)
  local kind = type(name)
  if kind ~= 'string' and kind ~= 'number' then
    error('Second argument to luaProtectedTableError must be a string or number', 2)
  end
  error("Script attempted to access nonexistent global variable '" .. name .. "'", 2)
end

local function pick(from, names)
  local to = {}
  for name in builtin.string.gmatch(names, '%S+') do
    to[name] = from[name]
  end
  return to
end

local globals = pick(builtin, [[tostring assert tonumber rawequal type select unpack gcinfo ipairs error
  _VERSION]])

local function copy(contents)
  local to = {}
  for k, v in rawnext, contents do
    to[k] = v
  end
  return to
end

-- A copy is walked: the hidden table must not come into a script's hands.
function globals.pairs(t)
  if type(t) ~= 'table' then
    return native.bad_argument(1, 'pairs', 'table', t)
  end
  local contents = behind[t]
  if contents then
    return rawnext, copy(contents), nil
  end
  return rawpairs(t)
end

function globals.next(t, key)
  if type(t) ~= 'table' then
    return native.bad_argument(1, 'next', 'table', t)
  end
  return rawnext(behind[t] or t, key)
end

function globals.rawget(t, key)
  if type(t) ~= 'table' then
    return native.bad_argument(1, 'rawget', 'table', t)
  end
  return rawget(behind[t] or t, key)
end

function globals.rawset(t, key, value)
  if type(t) ~= 'table' then
    return native.bad_argument(1, 'rawset', 'table', t)
  end
  if behind[t] then
    error(READONLY, 0)
  end
  if key == nil then
    error('table index is nil', 0)
  elseif key ~= key then
    error('table index is NaN', 0)
  end
  return rawset(t, key, value)
end

function globals.getmetatable(t)
  if behind[t] then
    return shown[t]
  end
  return getmetatable(t)
end

function globals.setmetatable(t, mt)
  if type(t) ~= 'table' then
    return native.bad_argument(1, 'setmetatable', 'table', t)
  end
  if mt ~= nil and type(mt) ~= 'table' then
    return native.bad_argument(2, 'setmetatable', 'nil or table')
  end
  if behind[t] then
    error(READONLY, 0)
  end
  local old = getmetatable(t)
  if old ~= nil and (type(old) ~= 'table' or rawget(old, '__metatable') ~= nil) then
    error('cannot change a protected metatable', 2)
  end
  return setmetatable(t, mt)
end

-- Redis's pcall gives the text of an error object.
local function outcome(ok, ...)
  if not ok then
    local e = ...
    if type(e) == 'table' then
      local text = e.err
      local kind = type(text)
      if kind == 'string' or kind == 'number' then
        return false, text
      end
    end
  end
  return ok, ...
end
function globals.pcall(...)
  return outcome(pcall(...))
end

-- A killed script's own handler is not called: no hook would interrupt it.
local xpcall, killed = builtin.xpcall, native.killed
function globals.xpcall(f, handler, ...)
  return xpcall(f, function(e)
    if killed() then
      return e
    end
    return handler(e)
  end, ...)
end

function globals.load(f, name)
  if type(f) ~= 'function' then
    return native.bad_argument(1, 'load', 'function', f)
  end
  local pieces = {}
  while true do
    local ok, piece = pcall(f)
    if not ok then
      return nil, piece
    end
    if piece == nil or piece == '' then
      break
    end
    if type(piece) ~= 'string' and type(piece) ~= 'number' then
      return nil, 'reader function must return a string'
    end
    pieces[#pieces + 1] = piece
  end
  return native.loadstring(builtin.table.concat(pieces), name or '=(load)')
end

globals.loadstring = native.loadstring
globals.collectgarbage = native.collectgarbage
globals.__redis__err__handler = native.error_handler

local string = pick(builtin.string, 'byte char dump find format gmatch gsub len lower match rep reverse sub upper')
string.gfind = string.gmatch
local math = pick(builtin.math, [[abs acos asin atan atan2 ceil cos cosh deg exp floor fmod frexp huge ldexp log log10
  max min modf pi pow rad sin sinh sqrt tan tanh]])
math.mod = math.fmod
math.random, math.randomseed = native.random, native.randomseed
local tables = pick(builtin.table, 'concat foreachi getn maxn remove sort')

-- The builtin, kept inside so that traces inline it; what would be an error there is reported for the caller.
function tables.insert(t, ...)
  if type(t) ~= 'table' then
    return native.bad_argument(1, 'insert', 'table', t)
  end
  if behind[t] then
    error(READONLY, 0)
  end
  local n = select('#', ...)
  if n == 1 then
    rawinsert(t, (...))
  elseif n == 2 then
    local at, value = ...
    if not builtin.tonumber(at) or type(at) == 'table' then
      return native.bad_argument(2, 'insert', 'number', at)
    end
    rawinsert(t, at, value)
  else
    error("wrong number of arguments to 'insert'", 2)
  end
end

function tables.foreach(t, f)
  return builtin.table.foreach(behind[t] and copy(behind[t]) or t, f)
end

function tables.setn(t)
  if type(t) ~= 'table' then
    return native.bad_argument(1, 'setn', 'table', t)
  end
  error("'setn' is obsolete", 2)
end

globals.string = protect(string)
globals.math = protect(math)
globals.table = protect(tables)
globals.coroutine = protect(pick(builtin.coroutine, 'create resume running status wrap yield'))
local bit = pick(builtin.bit, 'arshift band bnot bor bswap bxor lshift rol ror rshift tobit tohex')
-- LuaJIT writes more than eight digits if asked to.
function bit.tohex(x, digits)
  if type(digits) == 'number' then
    if digits > 8 then digits = 8 elseif digits < -8 then digits = -8 end
    return builtin.bit.tohex(x, digits)
  end
  return builtin.bit.tohex(x)
end
globals.bit = protect(bit)
globals.os = protect({clock = builtin.os.clock})
globals.redis = protect(module.redis)
globals.server = globals.redis
globals.cjson = protect(module.cjson)
globals.cmsgpack = protect(module.cmsgpack)
globals.struct = protect(module.struct)

-- Methods of strings go straight to the functions; what getmetatable('') shows is protected.
local strings = getmetatable('')
strings.__index = string
strings.__metatable = protect({__index = globals.string})

-- Functions of libraries have the same globals but for the debugger's, and see less while their library is loaded.
local functions = copy(globals)
functions.__redis__err__handler = nil
local api = copy(module.redis)
api.breakpoint, api.debug, api.replicate_commands = nil, nil, nil
functions.redis = protect(api)
functions.server = functions.redis
local at_load = pick(module.redis, 'log LOG_DEBUG LOG_VERBOSE LOG_NOTICE LOG_WARNING REDIS_VERSION REDIS_VERSION_NUM')
at_load.register_function = native.register_function
local loading = {redis = (protect(at_load, missing))}
loading.server = loading.redis
setmetatable(loading, {__index = missing})

local environment = protect(globals, missing)
globals._G = environment
local library_environment, library_meta = protect(functions, missing)
functions._G = library_environment
-- The last three: the metatable whose __index decides what libraries see, and its two values.
return environment, globals, library_environment, library_meta, loading, functions
