# frozen_string_literal: true

RSpec.describe Kino::Shareability do
  def blocker(object) = described_class.blocker(object)

  object_with = ->(value) { Object.new.tap { _1.instance_variable_set(:@part, value) } }

  shareable_self = Ractor.make_shareable(Object.new)
  mutex = Mutex.new
  list = [1]

  # A name, an object that cannot be shared, and what is said of it.
  {
    "an instance variable" => [object_with.(mutex), "the app.@part is a Thread::Mutex"],
    "an element of an Array" => [[1, [mutex]], "the app[1][0] is a Thread::Mutex"],
    "a value of a Hash" => [{ a: { "b" => mutex } }, 'the app[:a]["b"] is a Thread::Mutex'],
    "a key of a Hash" => [{ mutex => 1 }, "a key of the app is a Thread::Mutex"],
    "a default of a Hash" => [Hash.new(mutex), "the default of the app is a Thread::Mutex"],
    "a member of a Struct" => [Struct.new(:a).new(mutex), "the app.a is a Thread::Mutex"],
    "a member of a Data" => [Data.define(:a).new(a: mutex), "the app.a is a Thread::Mutex"],
    "an element of a Set" => [Set[mutex], /the app.* is a Thread::Mutex|a key of .*Mutex/],
    "an IO" => [object_with.($stdout), "the app.@part is a IO"],
    "a Thread" => [Thread.current, "the app is a Thread"],
    "a block that captures" => [
      shareable_self.instance_eval { proc { list } },
      /\Athe app is a block \(.*shareability_spec\.rb:\d+\) that captures the variable list \(Array\)/
    ],
    "a block whose self is not shared" => [
      object_with.(1).instance_eval { proc { @part } }, /the app is a block \(.*\) whose self is a Object/
    ],
    "a default block of a Hash" => [
      object_with.(1).instance_eval { Hash.new { |hash, key| hash[key] = @part } },
      /\Athe default block of the app is a block .* whose self is a Object/
    ]
  }.each do |name, (object, said)|
    it "finds #{name}, and changes nothing" do
      frozen = object.frozen?
      expect(blocker(object)).to match(said)
      expect(object.frozen?).to be frozen
    end

    it "agrees with Ruby on #{name}" do
      next if name == "an IO" # Ruby would freeze it

      expect { Ractor.make_shareable(object.clone) }.to raise_error(StandardError)
    end
  end

  {
    "a module" => Apps::Hello,
    "an object of strings" => Struct.new(:a).new([+"a", { b: [1.5, nil, :c] }, "d".."e"]),
    "a circle" => [].tap { _1 << _1 },
    "a block that captures what is shared" =>
      shareable_self.instance_eval { shared = "text"; proc { shared } },
    "a compiled pattern" => /#{list}/
  }.each do |name, object|
    it "finds nothing in #{name}, as Ruby does" do
      expect(blocker(object)).to be_nil
      expect(Ractor.shareable?(Ractor.make_shareable(object))).to be true
    end
  end

  it "says what to do" do
    expect { described_class.share([mutex]) }
      .to raise_error(Kino::UnshareableAppError,
                      /\Athe app cannot be shared among Ractors: the app\[0\] is .*mode: :threaded\z/)
  end
end
