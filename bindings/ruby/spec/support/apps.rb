# frozen_string_literal: true

# Apps for examples: modules and frozen objects, so that Ractors can share them.
module Apps
  TEXT = "text/plain"

  module Hello
    def self.call(_env) = [200, { "content-type" => TEXT }, ["Hello"]]
  end

  # Answers with the strings of its env.
  module Env
    def self.call(env)
      strings = env.select { |_, value| value.is_a?(String) }
      [200, { "content-type" => "application/octet-stream" }, [Marshal.dump(strings)]]
    end

    # What an answer's body says.
    def self.strings(body) = Marshal.load(body) # rubocop:disable Security/MarshalLoad -- our own
  end

  # Changes its env, and answers with what it found there.
  module Changing
    def self.call(env)
      found = env["HTTP_X_CHANGED"] || "unchanged"
      env["HTTP_X_CHANGED"] = "changed"
      [200, {}, [found]]
    end
  end

  # Answers with what it reads of rack.input, by the method that the path names.
  module Echo
    def self.call(env)
      input = env["rack.input"]
      parts = case env["PATH_INFO"]
              when "/gets" then [input.gets, input.gets].compact
              when "/each" then [].tap { |lines| input.each { lines << _1 } }
              when "/pieces" then [input.read(3), input.read(3, +"old"), input.read].compact
              else [input.read]
              end
      [200, { "content-type" => TEXT }, [parts.join("|")]]
    end
  end

  # Fails in the way that the path names.
  module Failing
    WAYS = %w[/standard /script /memory /stack /throw /exit /exception /interrupt].freeze

    def self.call(env)
      case env["PATH_INFO"]
      when "/standard" then raise "the app fails"
      when "/script" then raise NotImplementedError, "the app fails"
      when "/memory" then raise NoMemoryError, "the app fails"
      when "/stack" then call(env)
      when "/throw" then throw :the_app_fails
      when "/exit" then exit 3
      when "/exception" then raise Exception, "the app fails" # rubocop:disable Lint/RaiseException
      when "/interrupt" then raise Interrupt, "the app fails"
      else Hello.call(env)
      end
    end
  end

  # Returns what is no valid answer.
  module Invalid
    ANSWERS = Ractor.make_shareable(
      {
        "/nil" => nil,
        "/string" => "Hello",
        "/short" => [200, {}],
        "/long" => [200, {}, [], []],
        "/status" => ["no number", {}, []],
        "/interim" => [101, {}, []],
        "/negative" => [-1, {}, []],
        "/headers" => [200, 5, []],
        "/split" => [200, { "x-a" => "b\r\nx-c: d" }, []],
        "/name" => [200, { "x a" => "b" }, []],
        "/body" => [200, {}, 5],
        "/no-body" => [200, {}, nil],
        "/parts" => [200, {}, [:symbol]]
      }
    )

    def self.call(env) = ANSWERS.fetch(env["PATH_INFO"]) { Hello.call(env) }
  end

  # Answers with the headers of its path.
  module Headers
    ANSWERS = Ractor.make_shareable(
      {
        "/array" => { "x-a" => %w[one two], "set-cookie" => [] },
        "/lines" => { "x-a" => "one\ntwo" },
        "/objects" => { "x-a" => 5, :"x-b" => nil, "x-c" => [1.5, :two] },
        "/pairs" => [["x-a", "one"], ["x-b", 2]],
        "/many" => Array.new(200) { ["x-#{_1}", "v#{_1}"] }.to_h,
        "/rack" => { "rack.anything" => proc {}, "x-a" => "one" },
        "/bytes" => { "x-a" => "ü" },
        "/empty" => {}
      }
    )

    def self.call(env) = [200, ANSWERS.fetch(env["PATH_INFO"]), ["body"]]
  end

  # A body that writes into a file when it is closed.
  class ClosedBody
    def initialize(path, failing: false)
      @path = path
      @failing = failing
    end

    def each
      yield "one"
      raise "the body fails" if @failing

      yield "two"
    end

    def close = File.write(@path, "closed\n", mode: "a")
  end

  # Answers with a body that tells of its close in the file that the query names.
  module Closing
    def self.call(env)
      file = env["QUERY_STRING"]
      case env["PATH_INFO"]
      when "/raises" then [200, {}, ClosedBody.new(file, failing: true)]
      when "/no-content" then [204, {}, ClosedBody.new(file)]
      when "/bad-status" then [:bad, {}, ClosedBody.new(file)]
      when "/bad-headers" then [200, 5, ClosedBody.new(file)]
      when "/unsendable" then [200, { "x" => "\r" }, ClosedBody.new(file)]
      when "/long" then [200, {}, ClosedBody.new(file), 4]
      else [200, {}, ClosedBody.new(file)]
      end
    end
  end

  # Answers with bodies of other kinds than an array of one string.
  module Bodies
    def self.call(env)
      [200, {}, body(env["PATH_INFO"])]
    end

    def self.body(path)
      case path
      when "/none" then []
      when "/parts" then ["one ", "two ", "thr\u00e9e", "\xFF".b]
      when "/each" then Enumerator.new { |y| 3.times { y << "#{_1} " } }
      when "/call" then ->(stream) { stream.write("one "); stream << "two"; stream.close }
      when "/large" then ["0123456789abcdef" * 65_536] * 4
      end
    end
  end

  # Waits, within the request, until it may go on: writes a byte into the descriptor of the first
  # number of its query, and reads one from that of the second. "/kill" kills its thread instead.
  module Waiting
    def self.call(env)
      arrived, go = env["QUERY_STRING"].split("-").map { IO.for_fd(Integer(_1), autoclose: false) }
      Thread.current.kill if env["PATH_INFO"] == "/kill"
      if arrived
        arrived.syswrite(".")
        go.sysread(1) # unbuffered: others read here, too
      end
      Hello.call(env)
    end
  end
end
